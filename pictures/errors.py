"""What can go wrong when an explanation is drawn.

PictureError
├── InvalidAttribution   attribution values that cannot be drawn: NaN, infinite, wrong shape, no numbers
├── InvalidOriginal      the picture to draw over is empty or is no picture
└── InvalidRows          names, values and contributions that do not belong together, or a bad row limit
"""


class PictureError(Exception):
    """Root of the errors of this room."""


class InvalidAttribution(PictureError):
    """The attribution cannot be drawn; the message names the element, what came and what was expected."""


class InvalidOriginal(PictureError):
    """The original picture cannot be drawn over."""


class InvalidRows(PictureError):
    """The rows of a waterfall or bar picture do not fit together."""
