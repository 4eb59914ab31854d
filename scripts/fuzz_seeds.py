"""Small valid files of every kind that lvdreg reads, made in code, and what reads them; scans are in fuzz_scans.py."""

import hashlib
import json
import pickle
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
import trimesh
from fuzz_scans import Seed, in_memory, packaged_seeds, saved, scan_seeds
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lvdreg.descent.weights as shipped
from lvdreg import settings
from lvdreg.augment.lookup import find_scans
from lvdreg.augment.plan import Asked, Plan, Source
from lvdreg.augment.repose.sources import read_registered_person as read_result
from lvdreg.augment.run import pin
from lvdreg.augment.sheet import write_sheet
from lvdreg.base.arrays import write_npz
from lvdreg.base.errors import LvdregError
from lvdreg.base.provenance import sha256_of
from lvdreg.base.tensors import write_tensors
from lvdreg.batch.resume import is_finished
from lvdreg.batch.store import Folder
from lvdreg.batch.table import Outcome, table_of
from lvdreg.batch.table import read_results as read_table
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.files import body_arrays, load_body_data
from lvdreg.body.licensed import JOINT_NAMES, _parents, read_model
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.body.smplx_names import argument_of
from lvdreg.body.transfer import Correspondence
from lvdreg.cli.console import summary_cells
from lvdreg.cli.evaluate import is_table
from lvdreg.dataset import CHANNELS, SCAN_ARRAYS, VERSION_ARRAYS, Dataset, about_of, layout, write_shard
from lvdreg.descent.checkpoint import save_network
from lvdreg.evaluate.cache import kept
from lvdreg.evaluate.rigged import _LENGTH, SHARED_JOINTS, read_truth
from lvdreg.field import FieldConfig
from lvdreg.image.encoder import ImageConfig
from lvdreg.image.network import ImageNet, ImageNetConfig
from lvdreg.image.regressor import RegressorConfig, RegressorNet, RegressorNetConfig
from lvdreg.photo.given import is_of_many, read_keypoints
from lvdreg.photo.graph import read_graph, run_graph
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.mask import read_mask
from lvdreg.photo.model import photo_from_array, read_photo
from lvdreg.result.files import owned_names
from lvdreg.scan.model import read_scan
from lvdreg.scan.textured import read_pictured
from lvdreg.train.dataset_scans import DatasetScans
from lvdreg.train.run import TrainConfig, Trainer
from lvdreg.voxel.hand_detector import HandDetectorConfig, HandDetectorNet, HandDetectorNetConfig
from lvdreg.voxel.network import VoxelConfig, VoxelNet, VoxelNetConfig
from tests.conftest import make_toy_body
from tests.fabricate import python2_pickle

# --- Models -----------------------------------------------------------------------------------------------------------


def model_arrays(kind: str) -> dict[str, Any]:
    """Return the arrays of a licensed model's form with twenty vertices."""
    rng, count = np.random.default_rng(0), 20
    joints = len(JOINT_NAMES[kind])
    weights = rng.random((count, joints))
    arrays: dict[str, Any] = {
        "v_template": rng.normal(size=(count, 3)), "shapedirs": rng.normal(size=(count, 3, 10)) * 0.01,
        "posedirs": rng.normal(size=(count, 3, 9 * (joints - 1))) * 1e-3,
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": scipy.sparse.csc_matrix(np.eye(joints, count)), "f": rng.permutation(60).reshape(20, 3) % count,
        "kintree_table": np.stack([_parents(JOINT_NAMES[kind]) % 2**32, np.arange(joints)]).astype(np.uint32),
    }  # fmt: skip
    if kind == "mano":
        arrays |= {"hands_mean": np.zeros(45), "hands_components": np.eye(45), "bs_type": "lrotmin"}
    return arrays


def model_seeds() -> list[Seed]:
    """Return licensed models in every form, free bodies, and an added model."""
    mano, smpl = model_arrays("mano"), model_arrays("smpl")
    dense = {**smpl, "J_regressor": smpl["J_regressor"].toarray()}
    contents = {
        "plain2.pkl": pickle.dumps(mano, protocol=2), "plain4.pkl": pickle.dumps(smpl, protocol=4),
        "plain0.pkl": pickle.dumps(dense, protocol=0), "chumpy.pkl": python2_pickle(mano),
        "model.npz": in_memory(lambda s: np.savez(s, **dense)),
        "objects.npz": in_memory(lambda s: np.savez(s, **smpl)),
    }  # fmt: skip
    seeds = [
        Seed("model", name, {name: content}, lambda path: posed(read_model(path).data))
        for name, content in contents.items()
    ]
    toy = make_toy_body()
    body = in_memory(lambda s: write_npz(s, body_arrays(toy)))
    seeds.append(Seed("model", "toy.npz", {"toy.npz": body}, lambda path: posed(load_body_data(path))))
    num, ones = len(toy.v_template), np.ones(len(toy.v_template))
    place = Correspondence(
        "anny", np.zeros(num, np.int64), np.full((num, 3), 1 / 3), np.zeros((num, 3)), ones, ones < 0, 1.0, "k"
    )
    note = {"kind": "smpl", "side": None, "source": "toy.pkl", "sha256": "0" * 64, "date": "2026-11-27"}
    files = {
        "toy/toy.npz": body, "toy/model.json": json.dumps(note).encode(),
        "toy/correspondence.npz": in_memory(lambda s: write_npz(s, vars(place))),
    }  # fmt: skip
    # As of MANO, SMPL-H and SMPL-X: what a body has no place for.
    extra = {
        "model_hand_mean": np.zeros((2, 45), np.float32), "model_hand_components": np.zeros((2, 6, 45), np.float32),
        "model_expression": np.zeros((num, 3, 2), np.float32), "model_shapes_in_file": np.array(10),
        "model_mended_shapes": np.array(True),
    }  # fmt: skip
    more = files | {"toy/toy.npz": in_memory(lambda s: write_npz(s, body_arrays(toy) | extra))}
    return [*seeds, *(Seed("model", "toy/model.json", each, read_added) for each in (files, more))]


def posed(data: BodyData) -> None:
    """Pose a body."""
    body = BodyModel(data)
    with torch.inference_mode():
        body(BodyParams.zeros(body))


def read_added(path: Path) -> None:
    """Read an added model."""
    store.models_dir = lambda: path.parent.parent  # type: ignore[assignment]
    store._load_model.cache_clear()
    store.names()
    posed(store.load("toy"))
    found = store.correspondence("toy")
    store.is_current("toy")
    free = load_body("anny").data
    found.carry(free.v_template.astype(np.float64), free.faces)


# --- Weights ----------------------------------------------------------------------------------------------------------


def weight_seeds() -> list[Seed]:
    """Return small networks of every kind."""
    torch.manual_seed(0)
    small = FieldConfig(hidden=16, layers=2, rank=5, clip=0.3)
    voxel = VoxelNet(VoxelNetConfig("anny", VoxelConfig(resolution=8, channels=(4, 6)), small), torch.randn(20, 5))
    image = ImageConfig(size=32, inputs=("rgb", "mask"), keypoints=(), stem=8, stacks=1, stride=4, channels=(8, 16))
    hand = HandDetectorConfig(resolution=16, num_points=50, channels=(4, 8), hidden=8)
    nets: dict[str, Any] = {
        "voxel-anny": voxel,
        "image-anny": ImageNet(
            ImageNetConfig("anny", image, FieldConfig(hidden=16, layers=2, rank=5)), torch.randn(20, 5)
        ),
        "hand-detector-anny-hand": HandDetectorNet(HandDetectorNetConfig(detector=hand)),
        "regressor": RegressorNet(
            RegressorNetConfig("anny", 4, 3, RegressorConfig(32, (8, 16), 16, inputs=("rgb", "mask"), keypoints=()))
        ),
    }
    tables = {"calibration": {"spread": [0.01, 0.1], "sigma": [0.02, 0.2]}}
    tables["calibration_depth"] = tables["calibration"]
    seeds = []
    for name, net in nets.items():
        files = saved(
            lambda folder, n=name, m=net: save_network(
                folder / "weights" / f"{n}.safetensors", m, {"step": 7, **tables}
            )
        )
        seeds.append(Seed("weights", f"weights/{name}.safetensors", files, read_weights))
        # Without checksums what it says is checked by its sense.
        bare = {k: without_checksum(v) if k.endswith(".json") else v for k, v in files.items()}
        seeds.append(Seed("weights", f"weights/{name}.safetensors", bare, read_weights))
    steps = [
        {"op": "conv", "in": ["input"], "weight": "w", "bias": "b", "stride": [1, 1], "pad": [1, 1, 0, 0],
         "act": "relu6", "out": "x1"},
        {"op": "max_pool", "in": ["x1"], "size": [2, 2], "stride": [1, 1], "out": "x2"},
        {"op": "resize", "in": ["x2"], "size": [5, 6], "align_corners": False, "out": "x3"},
        {"op": "mean", "in": ["x3"], "out": "x4"},
        {"op": "mul", "in": ["x3", "x4"], "act": "hard_swish", "out": "x5"},
        {"op": "reshape", "in": ["x5"], "shape": [-1, 2], "out": "x6"},
    ]  # fmt: skip
    about = {
        "graph": {"input": [3, 5, 6], "range": [-1, 1], "outputs": {"a": "x5", "b": "x6"}, "steps": steps},
        "packed": {},
    }
    tensors = {"w": torch.randn(4, 3, 1, 1).half(), "b": torch.randn(4).half()}
    files = saved(lambda folder: write_tensors(folder / "person.safetensors", tensors, about))
    bare = {k: without_checksum(v) if k.endswith(".json") else v for k, v in files.items()}
    seeds += [Seed("weights", "person.safetensors", each, read_and_run) for each in (files, bare)]
    files = saved(lambda folder: trained().save(folder, {"start": {"file": "a", "sha256": "0"}}))
    bare = {k: without_checksum(v) if k.endswith(".json") else v for k, v in files.items()}
    state = ("state.safetensors", "state.json")
    return [*seeds, *(Seed("weights", state[0], each, read_state, state) for each in (files, bare))]


class SmallTrainer(Trainer[HandDetectorNet]):
    """Trains a network for as long as it takes to have a state."""

    name = "hand-detector"

    def __init__(self) -> None:
        sizes = HandDetectorNetConfig(
            detector=HandDetectorConfig(resolution=16, num_points=50, channels=(4, 8), hidden=8)
        )
        super().__init__(lambda: HandDetectorNet(sizes), TrainConfig(steps=2), torch.device("cpu"))

    def draw(self, seed: int) -> None:
        """Make nothing."""

    def bulk(self, count: int, seed: int) -> None:
        """Make nothing."""

    def loss(self, batch: None, generator: torch.Generator) -> torch.Tensor:
        """Draw all weights to zero."""
        return torch.stack([p.square().mean() for p in self.net.parameters()]).sum()

    def validate(self) -> dict[str, float]:
        """Return nothing."""
        return {}


def trained() -> SmallTrainer:
    """Return a run after a step."""
    trainer = SmallTrainer()
    trainer.train_step()
    return trainer


def read_state(path: Path) -> None:
    """Go on with a run."""
    trainer = SmallTrainer()
    trainer.resume(path.parent)
    trainer.train_step()


def without_checksum(data: bytes) -> bytes:
    """Return the JSON of weights as lvdreg 0.1 wrote it."""
    about = json.loads(data)
    return json.dumps({key: value for key, value in about.items() if key not in ("sha256", "pair")}).encode()


def read_weights(path: Path) -> None:
    """Load shipped weights, or a regressor."""
    shipped.assets_dir = lambda: path.parent.parent
    name = path.stem
    if name.startswith("voxel"):
        shipped.voxel_weights.__wrapped__("anny").calibration(torch.tensor([0.001, 0.05, 5.0]))
    elif name.startswith("image"):
        shipped.image_weights.__wrapped__("anny").calibration(torch.tensor([0.001, 0.05, 5.0]))
    elif name.startswith("hand"):
        shipped.hand_detector_weights.__wrapped__("anny-hand")
    else:
        shipped.load_network(path)


def read_and_run(path: Path) -> None:
    """Read a converted network and run it."""
    graph = read_graph(path)
    run_graph(graph, torch.zeros(1, *graph.input_shape), path.name)


# --- Photos -----------------------------------------------------------------------------------------------------------


def photo_seeds() -> list[Seed]:
    """Return pictures in the formats of cameras, phones and editors."""
    rng = np.random.default_rng(0)
    rgba = np.kron(rng.integers(0, 256, (6, 5, 4)), np.ones((8, 8, 1))).astype(np.uint8)
    colour, exif = Image.fromarray(rgba[..., :3]), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo"
    grey = Image.fromarray(rgba[..., 0].astype(np.uint16) * 256)
    forms: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "a.jpg": (colour, {"exif": exif}), "progressive.jpg": (colour, {"progressive": True}),
        "cmyk.jpg": (colour.convert("CMYK"), {}), "a.png": (Image.fromarray(rgba), {}),
        "palette.png": (colour.quantize(16), {"transparency": 3}), "grey16.png": (grey, {}),
        "exif.png": (colour, {"exif": exif}), "bits.png": (colour.convert("1"), {}), "a.webp": (colour, {"exif": exif}),
        "a.bmp": (colour, {}), "a.gif": (colour, {"save_all": True, "append_images": [colour]}), "a.ppm": (colour, {}),
        "a.tiff": (colour, {"compression": "tiff_lzw"}), "float.tiff": (grey.convert("F"), {}),
        "alpha.tiff": (Image.fromarray(rgba), {}), "a.jp2": (colour, {}), "a.ico": (colour, {}), "a.tga": (colour, {}),
        "a.pcx": (colour, {}), "a.sgi": (colour, {}), "a.dds": (colour, {}), "a.avif": (colour, {}),
    }  # fmt: skip
    seeds = []
    for name, (picture, options) in forms.items():
        try:
            content = in_memory(
                lambda s, p=picture, n=name, o=options: p.save(s, Image.registered_extensions()[Path(n).suffix], **o)
            )
        except (KeyError, OSError, ValueError):
            continue  # this Pillow cannot write it
        seeds.append(Seed("photo", name, {name: content}, read_picture))
    return seeds


def read_picture(path: Path) -> None:
    """Read a photo, and the same file as a mask."""
    photo = read_photo(path)
    assert photo.rgb.dtype == np.uint8 and photo.rgb.ndim == 3
    read_mask(path, photo_from_array(np.zeros((48, 40, 3), np.uint8)))


def keypoint_seeds() -> list[Seed]:
    """Return keypoints in all layouts."""
    rows = [[10.0 + i, 20.0 + i, 1.0] for i in range(33)]
    flat = [number for row in rows for number in row]
    coco = [{"image_id": 1, "keypoints": flat[:51], "score": 0.9}]
    contents = {
        "openpose.json": {"people": [{"pose_keypoints_2d": flat[:75]}, {"pose_keypoints_2d": flat[:54]}]},
        "coco.json": {"images": [{"id": 1, "file_name": "photo.jpg"}], "annotations": coco},
        "results.json": coco,
        "report.json": {"lvdreg": "0", "photo": {"width": 80}, "keypoints": dict(zip(KEYPOINTS, rows, strict=True))},
        "folder/photo_keypoints.json": {"people": [{"pose_keypoints_2d": flat}]},
    }  # fmt: skip
    return [Seed("keypoints", name, {name: json.dumps(one).encode()}, read_given) for name, one in contents.items()]


def read_given(path: Path) -> None:
    """Read keypoints of a photo."""
    is_of_many(path)
    photo = photo_from_array(np.zeros((48, 40, 3), np.uint8), "photo")
    for rows in read_keypoints(path.parent if path.parent.name == "folder" else path, photo)[0]:
        assert np.isfinite(rows).all() and rows.shape == (33, 3)


def pictured_seeds() -> list[Seed]:
    """Return meshes with pictures on them."""
    ball = trimesh.creation.uv_sphere(count=[8, 8])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8))
    ball.visual = trimesh.visual.TextureVisuals(
        uv=ball.vertices[:, :2], material=trimesh.visual.material.SimpleMaterial(image=picture)
    )
    text, parts = trimesh.exchange.obj.export_obj(ball, return_texture=True, mtl_name="ball.mtl")
    loose = {"ball.obj": text.encode(), **{name: data for name, data in parts.items()}}
    files = [("ball.obj", loose), ("ball.glb", {"ball.glb": ball.export(file_type="glb")})]
    files.append(("model.gltf", ball.export(file_type="gltf")))
    return [Seed("pictured", name, content, read_with_pictures) for name, content in files]


def read_with_pictures(path: Path) -> None:
    """Read a scan as augmenting does."""
    read_scan(path)
    read_pictured(path)


# --- Datasets, settings, results --------------------------------------------------------------------------------------


def dataset_seeds() -> list[Seed]:
    """Return a finished dataset of two shards."""
    rng, num, versions = np.random.default_rng(0), 4, 2

    def write(folder: Path) -> None:
        shards = []
        for number in range(2):
            arrays: dict[str, Any] = {}
            for name, (shape, kind) in layout(8, 6, 2, 3, CHANNELS, 10).items():
                count = versions if name in VERSION_ARRAYS else num
                values = rng.integers(0, 2, (count, *shape))
                arrays[name] = np.array(["x"] * count) if kind is np.str_ else values.astype(kind)
            arrays["about"] = np.array(json.dumps({"format": "lvdreg-dataset", "rejected": {}}))
            write_shard(folder / f"shard-{number:06d}.npz", arrays)
            size = (folder / f"shard-{number:06d}.npz").stat().st_size
            shards.append(
                {
                    "file": f"shard-{number:06d}.npz",
                    "images": num,
                    "versions": versions,
                    "sha256": sha256_of(folder / f"shard-{number:06d}.npz"),
                    "bytes": size,
                }
            )
        manifest = {
            "format": "lvdreg-dataset", "version": 1, "shards": shards, "body": {"name": "toy"},
            "asked": {"size": 8, "channels": list(CHANNELS)}, "rest_box": [[0, 0, 0], [1, 1, 1]],
            "counts": {"images": 8, "versions": 4, "scans": 1, "characters": 1}, "draws_rejected": {"x": 1},
            "versions_given_up": {},
        }  # fmt: skip
        (folder / "plan.json").write_text(json.dumps(PLANNED.to_json()), encoding="utf-8")
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    return [Seed("dataset", "manifest.json", saved(write), read_dataset)]


PLANNED = Plan(Asked(), "toy", "0", (Source("a", {"scan": "0"}),), {"b": "a hand"})


def read_dataset(path: Path) -> None:
    """Read a dataset as training does, and as making it does."""
    pin(PLANNED, path.parent)
    write_sheet(path.parent)
    data = Dataset(path.parent).require(None, ("image",))
    names = data.names()
    data.sample(0, names)
    data.batch(1, 3, [name for name in names if name != "about"])
    data.batch(0, 2, SCAN_ARRAYS, versions=True)
    about_of(path.parent / data.shards[0].file)
    DatasetScans(path.parent, "toy").scans(2, 5, torch.Generator().manual_seed(0))
    data.verify()


def settings_seeds() -> list[Seed]:
    """Return settings files."""
    commented = settings.as_toml({command: settings.Settings() for command in settings.COMMANDS})
    commented = re.sub(r"(?m)^# (\w+ = )", r"\1", commented)
    plain = 'quality = "fast"\nclothes = false\n[register]\nnum_points = 5000\noutlier_distance_mm = 12.5\n'
    plain += "[hands]\nnum_views = 3\n"
    texts = {"plain.toml": plain.encode(), "commented.toml": commented.encode(), "utf16.toml": plain.encode("utf-16")}
    return [Seed("settings", name, {name: content}, settings.read_file) for name, content in texts.items()]


def result_seeds() -> list[Seed]:
    """Return a folder of results, with all that later commands read of it."""
    body = load_body("anny")
    surface = trimesh.Trimesh(body.data.v_template, body.data.faces, process=False).export(file_type="ply")
    params: dict[str, Any] = {
        "betas": np.zeros((1, body.num_betas)),
        "transl": np.zeros((1, 3)),
        "T_scan_model": np.eye(4),
    }
    owners = Counter(["global_orient", *map(argument_of, body.joint_names[1:])])
    params |= {name: np.zeros((1, 3 * count)) for name, count in owners.items()} | {"model": "anny+d"}
    hash_of_scan = hashlib.sha256(b"ply").hexdigest()
    report = {
        "lvdreg": "0.2.0", "name": "a", "model": "anny+d", "verdict": "good", "side": None,
        "files": {"params.npz": "x"}, "scan": {"points": 7},
        "input": {"path": "/a.ply", "sha256": hash_of_scan},
        "assets": {"bodies/anny.npz": body.data.sha256, "input/a.ply": hash_of_scan, "models/b": ""},
    }  # fmt: skip
    outcome = {
        "source": "/nowhere/a.ply", "folder": "a", "verdict": "good", "reason": "x", "error_mm": 1.0, "iou": 0.9,
        "height_m": 1.8, "height_is_guess": True, "unit": "m", "up": "+y", "side": "left", "side_confidence": 0.9,
        "seconds": 1.0, "timings": {"read": 1.0}, "traceback": None, "key": "k",
    }  # fmt: skip
    cached = {
        "key": np.array("k"), "seconds": np.array(1.0), "verdict": np.array("good"), "reason": np.array("x"),
        "v": np.zeros(3),
    }  # fmt: skip
    table = {"title": "t", "rows": [], "notes": [], "details": {}}
    files = {
        "out/a/report.json": json.dumps(report).encode(),
        "out/a/params.npz": in_memory(lambda s: np.savez(s, **params)),
        "out/results.csv": table_of([Outcome(**outcome)]),
        "out/table.json": json.dumps(table).encode(),
        "out/kept.npz": in_memory(lambda s: np.savez_compressed(s, **cached)),
    }  # fmt: skip
    given = {"a.ply": b"ply", "out/a/registered.ply": surface}
    return [Seed("results", "out/a/report.json", files | given, read_results, tuple(files))]


def failed() -> dict[str, np.ndarray]:
    """Return what a benchmark keeps of a failure."""
    return {"verdict": np.array("failed"), "reason": np.array("x")}


def read_results(path: Path) -> None:
    """Read all that lies in a folder of results; each file by itself, as one must not hide the others."""
    out = path.parent.parent
    reads: list[Callable[[], object]] = [
        lambda: resume(out), lambda: owned_names(path.parent), lambda: is_table(out / "table.json"),
        lambda: kept(out / "kept.npz", "k", failed), lambda: find_scans([out.parent / "a.ply"], out),
        lambda: read_result(path.parent),
    ]  # fmt: skip
    refused: LvdregError | None = None
    for read in reads:
        try:
            read()
        except LvdregError as error:
            refused = error
    if refused is not None:
        raise refused


def resume(out: Path) -> None:
    """Look what of an earlier run is finished, and show it."""
    for outcome in read_table(out):
        is_finished(outcome, "k", out.parent / "a.ply", Folder(out))
        summary_cells(outcome)


def rigged_seeds(scans: list[Seed]) -> list[Seed]:
    """Return a hand with a skeleton, as the benchmark reads it."""
    files = dict(next(seed.files for seed in scans if seed.name == "rigged.gltf"))
    document = json.loads(files["rigged.gltf"])
    joints = [name for name in dict.fromkeys((*SHARED_JOINTS, *_LENGTH)) if name != "wrist"]
    document["nodes"] += [{"name": name, "translation": [0.01 * i, 0.1, 0]} for i, name in enumerate(joints)]
    document["nodes"][1]["children"] = list(range(2, len(document["nodes"])))
    files["rigged.gltf"] = json.dumps(document).encode()
    return [Seed("results", "rigged.gltf", files, read_truth)]


def all_seeds() -> list[Seed]:
    """Return every seed, in the same order in every run."""
    scans = [*scan_seeds(), *packaged_seeds()]
    return [
        *scans, *pictured_seeds(), *keypoint_seeds(), *model_seeds(), *weight_seeds(), *photo_seeds(),
        *dataset_seeds(), *settings_seeds(), *result_seeds(), *rigged_seeds(scans),
    ]  # fmt: skip
