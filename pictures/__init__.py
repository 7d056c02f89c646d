"""Pictures of explanations: what a person looks at to judge an answer.

`heatmap` (images), `waterfall` (rows with a base value) and `bars` (rows without one) each return a `Picture`, which
is one description of a drawing; `Picture.svg()` and `Picture.png()` render that same description.
"""

from .drawing import Picture
from .errors import InvalidAttribution, InvalidOriginal, InvalidRows, PictureError
from .heatmap import heatmap
from .waterfall import bars, waterfall

__all__ = [
    "InvalidAttribution",
    "InvalidOriginal",
    "InvalidRows",
    "Picture",
    "PictureError",
    "bars",
    "heatmap",
    "waterfall",
]
