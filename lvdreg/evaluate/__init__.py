"""Benchmarks: real scans whose correspondences, joints or bodies under clothes are known, fresh synthetic scans with
known bodies and hands, the same damaged, and photos of both.

All register every scan with one setting, keep each result (cache.py), and end in a table that names what was
measured, in millimetres. Beside lvdreg stands a baseline that anyone could run: the same refinement, started from the
rest pose, without a network and without correspondences (baseline.py).
"""

from lvdreg.evaluate.challenge import evaluate_challenge
from lvdreg.evaluate.clothed import evaluate_clothed
from lvdreg.evaluate.convergence import evaluate_convergence
from lvdreg.evaluate.faust import evaluate_faust
from lvdreg.evaluate.images import evaluate_images
from lvdreg.evaluate.landmarks import evaluate_landmarks
from lvdreg.evaluate.measures import evaluate_measures
from lvdreg.evaluate.rigged import evaluate_rigged
from lvdreg.evaluate.robustness import evaluate_robustness
from lvdreg.evaluate.shrec19 import evaluate_shrec19
from lvdreg.evaluate.synthetic import evaluate_hands, evaluate_synthetic

__all__ = [
    "evaluate_challenge",
    "evaluate_clothed",
    "evaluate_convergence",
    "evaluate_faust",
    "evaluate_hands",
    "evaluate_images",
    "evaluate_landmarks",
    "evaluate_measures",
    "evaluate_rigged",
    "evaluate_robustness",
    "evaluate_shrec19",
    "evaluate_synthetic",
]
