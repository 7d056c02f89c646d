"""`path_gradient`: gradients at K points between a baseline and x, contracted with R weightings.

With d = x (+ noise) - baseline and g_k the gradient of f at baseline + alpha_k d:
`x.gradient` [N, R, ...] = sum_k weight_kr g_k, `x.attribution` [N, R, ...] = sum_k weight_kr d g_k, and `value` [N, K]
= f along the path. Saliency, input x gradient, integrated gradients, SmoothGrad and expected gradients are different
alphas, weights, baselines and noise on this one program.
"""

from __future__ import annotations

from ..backward import backward
from ..errors import InvalidParameter
from ..model import Model
from ..registry import REGISTRY
from ..rules.guided import GUIDED
from .draft import Program
from .paths import contract, declare, place_at, walk
from .target import select

RULES = {"gradient": REGISTRY, "guided": GUIDED}


def build_path_gradient(
    model: Model, *, output: str | None = None, space: str | None = None, noise: bool = False, rules: str = "gradient"
) -> Program:
    """Compile the program; `noise=True` adds an input `<input>.noise` [N, J, ...] for each float input.

    `rules` names the backward rules: "gradient", or "guided" for those of guided backpropagation.
    """
    if rules not in RULES:
        raise InvalidParameter(f"rules: came {rules!r}, expected one of {', '.join(RULES)}")
    explained = model.explained(output, space)
    arrays = {"alpha": (explained.dtype, ("N", "K")), "weight": (explained.dtype, ("N", "K", "R"))}
    draft = declare(model, explained, arrays, ("value",), noise)
    emit, paths = draft.emit, [walk(draft, leaf, noise) for leaf in model.leaves(explained)]
    graph = place_at(draft, paths, "alpha")
    repeat = emit.dim("alpha", 1)
    value, cotangent = select(emit, draft.explained(graph, explained), "target", "target.weight", repeat)
    seeds = {graph.now(explained.value): draft.to_layout(explained.output, cotangent)}
    gradients = backward(emit, graph, seeds, [graph.now(path.leaf.value) for path in paths], RULES[rules])
    contract(draft, paths, {path.leaf.value: gradients[graph.now(path.leaf.value)] for path in paths})
    draft.output("value", emit.reshape(value, emit.shape("alpha")), explained.dtype, ("N", "K"))
    options = {"output": explained.output, "space": explained.space, "noise": noise, "rules": rules}
    return draft.finish("path_gradient", explained, options)
