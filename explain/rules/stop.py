"""Operators whose outputs carry no gradient: integers, booleans, shapes, random numbers, and steps, flat almost
everywhere. A value that reaches the output only through these has gradient zero."""

from ..registry import stop

stop("Shape", "Size", "NonZero", "ArgMax", "ArgMin", "OneHot", "Range", "EyeLike", "ConstantOfShape", "Constant")
stop("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf")
stop("Floor", "Ceil", "Round", "Sign", "Hardmax", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
stop("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
stop("StringNormalizer", "TfIdfVectorizer", "NonMaxSuppression")
stop("LabelEncoder", "OneHotEncoder", "CategoryMapper", "Binarizer", domain="ai.onnx.ml")
