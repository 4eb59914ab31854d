"""Types of numpy arrays. The tests check every annotation; a letter that comes twice in a signature is one size.

Other shapes are written where they are used, as in ``Float64[np.ndarray, "J 3"]``; `FloatArray` and its like have any.
"""

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

Vertices = Float64[np.ndarray, "V 3"]
Faces = Int64[np.ndarray, "F 3"]
Points = Float64[np.ndarray, "P 3"]
Transform = Float64[np.ndarray, "4 4"]
