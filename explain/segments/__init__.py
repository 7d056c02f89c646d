"""Groups of elements that are present or absent together, made from what a request says of them.

`resolve` reads a spec: elements, columns and one-hot blocks, channels, positions, windows of time, patches and
superpixels, tokens and words, whole inputs. `hierarchy` is the tree over such groups that partition SHAP walks.
"""

from .base import Segments
from .linkage import average_linkage
from .slic import slic
from .spec import SCHEMA, resolve
from .tree import hierarchy

__all__ = ["SCHEMA", "Segments", "average_linkage", "hierarchy", "resolve", "slic"]
