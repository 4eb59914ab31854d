"""Measure how fast synthetic people are drawn, dressed and photographed, part by part.

    python scripts/bench_render.py [--batch 8] [--size 256] [--supersample 2] [--device cpu] [--threads 2] [--plain]

``--plain`` gives all people one colour, which tells what the renderer costs without their textures.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lvdreg.body import load_body
from lvdreg.geometry.raster import descend_scan
from lvdreg.synth.camera.light import draw_lights
from lvdreg.synth.camera.raster import place
from lvdreg.synth.camera.render import Frame, RenderConfig, render
from lvdreg.synth.camera.shade import shadow_map
from lvdreg.synth.camera.view import Cameras, framing, look_at
from lvdreg.synth.characters import Characters
from lvdreg.synth.draw import Draw
from lvdreg.synth.subjects import Material, Pixels, Subjects


class Grey:
    """The cheapest texture."""

    def __call__(self, pixels: Pixels) -> Material:
        """Return matt grey."""
        blank = torch.zeros(len(pixels.sample), device=pixels.bary.device)
        return Material(blank[:, None] + 0.5 * torch.ones(3, device=blank.device), blank, blank)


def timed(function: Callable[[], object], runs: int, device: torch.device) -> float:
    """Return the median of the seconds that a call takes."""
    taken = []
    for _ in range(runs + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[runs // 2]


def take_aim(subjects: Subjects, size: int, draw: Draw) -> tuple[Cameras, Tensor]:
    """Place cameras anywhere around people, who fill most of the picture's height; also return the cameras' yaw."""
    points = subjects.outer.vertices
    yaw, pitch, perspective = draw.uniform(-3.14, 3.14)[:, 0], 0.1 * draw.normal()[:, 0], draw.uniform(0, 0.4)[:, 0]
    still = torch.zeros_like(yaw)
    cameras = look_at(points.mean(1), yaw, pitch, still, still + 1, perspective, size)
    return framing(points, cameras, size, still + 0.87), yaw


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body", default="anny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--supersample", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    with torch.no_grad():
        measure(given, device)


def measure(given: argparse.Namespace, device: torch.device) -> None:
    """Time the parts and the whole, and print them."""
    characters = Characters(load_body(given.body).to(device))
    generator = torch.Generator(device).manual_seed(0)
    people = subjects = characters.draw(given.batch, generator)
    if given.plain:
        people = replace(people, texture=Grey())
    draw = Draw(given.batch, generator)
    cameras, yaw = take_aim(people, given.size, draw)
    lights = draw_lights(draw, yaw)
    frame = Frame(given.batch, given.size, given.supersample)
    screen = place(people.outer, cameras)
    seen = descend_scan(screen, frame.grid)
    pixels = Pixels(seen.sample, seen.corners, seen.bary.float())
    least = RenderConfig(shadow_size=0, occlusion=0.0, relief=False)
    parts: dict[str, Callable[[], object]] = {
        "draw and dress people": lambda: characters.draw(given.batch, generator),
        "place triangles": lambda: place(people.outer, cameras),
        "look": lambda: descend_scan(screen, frame.grid),
        "shadow map": lambda: shadow_map(people.outer, lights, RenderConfig().shadow_size),
        "texture": lambda: people.texture(pixels),
        "render, least": lambda: render(people, cameras, lights, given.size, given.supersample, least),
        "render": lambda: render(people, cameras, lights, given.size, given.supersample),
    }
    faces, places = len(subjects.outer.faces), len(seen.pixel) // given.batch
    print(f"{given.batch} x {given.size} px, {given.supersample} looks a pixel and direction, {faces} faces,")
    print(f"{places} places a picture that see somebody; {device}, {given.threads} threads")
    print(f"{'part':24}{'ms a picture':>14}{'pictures a s':>14}")
    for name, part in parts.items():
        seconds = timed(part, given.runs, device) / given.batch
        print(f"{name:24}{1e3 * seconds:14.1f}{1 / seconds:14.1f}")


if __name__ == "__main__":
    main()
