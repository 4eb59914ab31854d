"use strict";
// The 3D view of a result: WebGL 2, no library. Reads the scene from the page (lvdreg/report/scene.py), builds the
// controls of its layers, draws when something has changed, and says values in words, too. Without WebGL 2 the picture
// that the page holds stays.

const FIELD_OF_VIEW = 0.5; // radians, from top to bottom
const KEY_LIGHT = [-0.42, 0.56, 0.71]; // as the pictures of results have it: lvdreg/result/shade.py
const LOOKS = {
  "Result": { surface: [1, ""] },
  "Scan": { scan: [1, ""] },
  "Body": { body: [1, ""], scan: [0.3, ""] },
  "Distances": { scan: [1, "distance to the surface"] },
  "Uncertainty": { surface: [1, "sigma"] },
};
const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; in vec3 own; in float value;
uniform mat4 toView, toClip; uniform vec3 low, size; uniform float dots;
out vec3 seen, facing, tint; out float amount;
void main() {
  vec4 at = toView * vec4(low + size * place, 1.0);
  seen = at.xyz; facing = mat3(toView) * normal; tint = own; amount = value;
  gl_Position = toClip * at; gl_PointSize = clamp(dots / -at.z, 1.0, 40.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 seen, facing, tint; in float amount;
uniform sampler2D map; uniform vec3 colour, light; uniform vec2 range; uniform float opacity; uniform int mode;
out vec4 drawn;
void main() {
  vec3 base = mode == 0 ? colour : mode == 1 ? tint : texture(map, vec2(range.x + range.y * amount, 0.5)).rgb;
  float lit = 1.0;
  if (dot(facing, facing) > 0.01) {
    vec3 n = normalize(facing);
    if (dot(n, seen) > 0.0) n = -n;
    float head = max(n.z, 0.0);
    lit = 0.32 + 0.5 * max(dot(n, light), 0.0) + 0.24 * head - 0.16 * pow(1.0 - head, 3.0);
  }
  drawn = vec4(base * lit, opacity);
}`;

/** Return the bytes that packed text stands for. */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Return faces as one list of numbers; each was packed as what it is more than the one before. */
async function facesOf(packed) {
  const kind = packed.bits === 16 ? Uint16Array : Uint32Array;
  const numbers = new kind(await unpacked(packed.steps));
  for (let i = 1; i < numbers.length; i++) numbers[i] += numbers[i - 1];
  return numbers;
}

/** Return normals of vertices, those of their faces weighed by area. */
function normalsOf(steps, size, faces) {
  const sums = new Float32Array(steps.length), out = new Int8Array((steps.length / 3) * 4);
  const p = (i, k) => steps[3 * i + k] * size[k];
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [faces[f], faces[f + 1], faces[f + 2]];
    const u = [0, 1, 2].map((k) => p(b, k) - p(a, k)), v = [0, 1, 2].map((k) => p(c, k) - p(a, k));
    const n = cross(u, v);
    for (const i of [a, b, c]) for (let k = 0; k < 3; k++) sums[3 * i + k] += n[k];
  }
  for (let i = 0; 3 * i < sums.length; i++) {
    const n = unit([sums[3 * i], sums[3 * i + 1], sums[3 * i + 2]]);
    for (let k = 0; k < 3; k++) out[4 * i + k] = Math.round(127 * n[k]);
  }
  return out;
}

const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => { const n = Math.hypot(...a) || 1; return a.map((x) => x / n); };
const times = (A, B) => A.map((row) => [0, 1, 2].map((k) => row[0] * B[0][k] + row[1] * B[1][k] + row[2] * B[2][k]));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
/** Three bytes a vertex as four: what a graphics card reads fast. */
const padded = (bytes) => {
  const out = new bytes.constructor((bytes.length / 3) * 4);
  for (let i = 0; 3 * i < bytes.length; i++) out.set(bytes.subarray(3 * i, 3 * i + 3), 4 * i);
  return out;
};

/** Unpack a layer: arrays as they go to the graphics card. */
async function layerOf(packed, topology) {
  const steps = new Uint16Array(await unpacked(packed.points));
  const faces = packed.faces === "topology" ? topology : packed.faces ? await facesOf(packed.faces) : null;
  const normals = faces ? normalsOf(steps, packed.size, faces)
    : packed.normals ? padded(new Int8Array(await unpacked(packed.normals))) : new Int8Array(4 * packed.count);
  const colours = packed.colours ? padded(new Uint8Array(await unpacked(packed.colours))) : null;
  const values = [];
  for (const each of packed.values) values.push({ ...each, steps: new Uint16Array(await unpacked(each.steps)) });
  return { ...packed, steps, faces, normals, colours, values, opacity: 0, shown: "" };
}

/** The colours of a map, 256 of them. */
function rampOf(stops) {
  const out = new Uint8Array(256 * 4).fill(255);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1), below = Math.min(Math.floor(at), stops.length - 2);
    for (let k = 0; k < 3; k++) out[4 * i + k] = stops[below][k] + (at - below) * (stops[below + 1][k] - stops[below][k]);
  }
  return out;
}

class Viewer {
  constructor(canvas, scene, layers, say) {
    Object.assign(this, { canvas, scene, layers, say, axes: scene.views[0].axes });
    this.home();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.prepare(); this.redraw(); });
    this.prepare();
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  home() {
    this.axes = this.scene.views[0].axes;
    this.target = [...this.scene.centre];
    this.distance = (1.08 * this.scene.radius) / Math.sin(FIELD_OF_VIEW / 2);
  }

  /** Compile, and hand everything to the graphics card. */
  prepare() {
    const gl = (this.gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true }));
    const program = (this.program = gl.createProgram());
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    ["place", "normal", "own", "value"].forEach((name, i) => gl.bindAttribLocation(program, i, name));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.at = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(program, i);
      this.at[name] = gl.getUniformLocation(program, name);
    }
    this.maps = {};
    for (const [name, stops] of Object.entries(this.scene.maps)) {
      gl.bindTexture(gl.TEXTURE_2D, (this.maps[name] = gl.createTexture()));
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, rampOf(stops));
      for (const [key, value] of [[gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
        [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]])
        gl.texParameteri(gl.TEXTURE_2D, key, value);
    }
    for (const layer of this.layers) this.upload(layer);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  upload(layer) {
    const gl = this.gl;
    const buffer = (array, target = gl.ARRAY_BUFFER) => {
      gl.bindBuffer(target, gl.createBuffer());
      gl.bufferData(target, array, gl.STATIC_DRAW);
    };
    const column = (place, array, size, kind, stride) => {
      buffer(array);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, kind, true, stride, 0);
    };
    gl.bindVertexArray((layer.array = gl.createVertexArray()));
    column(0, layer.steps, 3, gl.UNSIGNED_SHORT, 6);
    column(1, layer.normals, 3, gl.BYTE, 4);
    if (layer.colours) column(2, layer.colours, 3, gl.UNSIGNED_BYTE, 4);
    if (layer.faces) buffer(layer.faces, gl.ELEMENT_ARRAY_BUFFER);
    layer.buffers = layer.values.map((each) => {
      const made = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, made);
      gl.bufferData(gl.ARRAY_BUFFER, each.steps, gl.STATIC_DRAW);
      return made;
    });
    gl.bindVertexArray(null);
  }

  /** Draw once, before the next picture of the screen. */
  redraw() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = undefined; this.draw(); });
  }

  /** The matrix from the model to the viewer, by rows. */
  view() {
    const moved = this.axes.map((row) => -dot(row, this.target));
    return this.axes.map((row, i) => [...row, moved[i] - (i === 2 ? this.distance : 0)]);
  }

  draw() {
    const { gl, canvas, at } = this;
    if (gl.isContextLost()) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.depthMask(true);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const rows = [...this.view(), [0, 0, 0, 1]], zoom = this.zoom(), reach = 6 * this.scene.radius;
    const near = Math.max(this.distance - reach, 0.01 * this.scene.radius), far = this.distance + reach;
    gl.uniformMatrix4fv(at.toView, false, [0, 1, 2, 3].flatMap((k) => rows.map((row) => row[k])));
    gl.uniformMatrix4fv(at.toClip, false, [(zoom * height) / width, 0, 0, 0, 0, zoom, 0, 0, 0, 0,
      (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0]);
    gl.uniform3fv(at.light, KEY_LIGHT);
    gl.uniform1f(at.dots, 0.006 * this.scene.radius * zoom * height);
    for (const layer of this.layers) if (layer.opacity > 0) this.drawLayer(layer);
  }

  /** Of a canvas that is higher than wide the angle across is the field of view. */
  zoom() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    return Math.min(1, (1.6 * w) / h) / Math.tan(FIELD_OF_VIEW / 2);
  }

  drawLayer(layer) {
    const { gl, at } = this, number = layer.values.findIndex((each) => each.name === layer.shown);
    gl.bindVertexArray(layer.array);
    gl.uniform3fv(at.low, layer.low);
    gl.uniform3fv(at.size, layer.size);
    gl.uniform3fv(at.colour, layer.colour);
    gl.uniform1i(at.mode, number >= 0 ? 2 : layer.colours && layer.shown === "own colours" ? 1 : 0);
    if (number >= 0) {
      const { map, from, to, low, high } = layer.values[number];
      gl.bindTexture(gl.TEXTURE_2D, this.maps[map]);
      gl.uniform2f(at.range, (low - from) / (to - from), (high - low) / (to - from));
      gl.bindBuffer(gl.ARRAY_BUFFER, layer.buffers[number]);
      gl.enableVertexAttribArray(3);
      gl.vertexAttribPointer(3, 1, gl.UNSIGNED_SHORT, true, 2, 0);
    } else gl.disableVertexAttribArray(3);
    gl.uniform1f(at.opacity, layer.opacity);
    const paint = () => layer.faces
      ? gl.drawElements(gl.TRIANGLES, layer.faces.length, layer.faces.BYTES_PER_ELEMENT === 2 ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT, 0)
      : gl.drawArrays(gl.POINTS, 0, layer.count);
    if (layer.opacity < 1) {
      // Only what is in front of a layer shows through, and not its own far side.
      gl.colorMask(false, false, false, false);
      paint();
      gl.colorMask(true, true, true, true);
      gl.enable(gl.BLEND);
    }
    paint();
    gl.disable(gl.BLEND);
  }

  /** Turn by radians about the axes that point right and up on the screen. */
  turn(right, up) {
    const [a, b, c, d] = [Math.cos(up), Math.sin(up), Math.cos(right), Math.sin(right)];
    // About the model's own vertical, so that what stands upright goes on standing.
    const y = this.scene.views[0].axes[1], k = y, K = [[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]];
    const KK = times(K, K), about = [0, 1, 2].map((i) => [0, 1, 2].map((j) => (i === j) + b * K[i][j] + (1 - a) * KK[i][j]));
    this.axes = times([[1, 0, 0], [0, c, -d], [0, d, c]], times(this.axes, about)).map(unit);
    this.redraw();
  }

  /** Move what is seen by shares of the view's height. */
  pan(right, up) {
    const reach = (2 * this.distance) / this.zoom();
    this.target = this.target.map((x, k) => x - reach * (right * this.axes[0][k] + up * this.axes[1][k]));
    this.redraw();
  }

  nearer(factor) {
    this.distance = clamp(this.distance * factor, 0.1 * this.scene.radius, 40 * this.scene.radius);
    this.redraw();
  }

  look(name) {
    this.home();
    this.axes = this.scene.views.find((each) => each.name === name).axes;
    this.redraw();
  }

  /** Say what is seen at a place of the canvas, in its pixels, and its value where it is shown in colours. */
  valueAt(x, y) {
    const found = this.layers.filter((each) => each.opacity > 0).map((each) => this.hit(each, x, y)).filter(Boolean);
    if (!found.length) return "Nothing there.";
    const { layer, corners, shares } = found.reduce((a, b) => (b.depth < a.depth ? b : a));
    const field = layer.values.find((each) => each.name === layer.shown);
    if (!field) return `${layer.title}.`;
    const step = corners.reduce((sum, i, k) => sum + shares[k] * field.steps[i], 0);
    const value = field.low + ((field.high - field.low) * step) / 65535;
    if (field.map !== "distance") return `${layer.title}: ${field.name} ${value.toFixed(1)} mm.`;
    return `${layer.title}: ${Math.abs(value).toFixed(1)} mm ${value < 0 ? "inside" : "outside"} of the surface.`;
  }

  /** Find what of a layer is seen at a place: its depth, the corners of the face there, and their shares. */
  hit(layer, x, y) {
    const rows = this.view(), { clientWidth: w, clientHeight: h } = this.canvas, zoom = (this.zoom() * h) / 2;
    const m = rows.map((row) => [0, 1, 2].map((k) => (row[k] * layer.size[k]) / 65535));
    const o = rows.map((row) => dot(row, layer.low) + row[3]);
    const u = new Float32Array(layer.count), v = new Float32Array(layer.count), z = new Float32Array(layer.count);
    for (let i = 0; i < layer.count; i++) {
      const [p, q, r] = [layer.steps[3 * i], layer.steps[3 * i + 1], layer.steps[3 * i + 2]];
      z[i] = -(m[2][0] * p + m[2][1] * q + m[2][2] * r + o[2]);
      u[i] = ((m[0][0] * p + m[0][1] * q + m[0][2] * r + o[0]) / z[i]) * zoom + w / 2 - x;
      v[i] = h / 2 - ((m[1][0] * p + m[1][1] * q + m[1][2] * r + o[1]) / z[i]) * zoom - y;
    }
    let best = null;
    const take = (depth, corners, shares) => { if (depth > 0 && !(depth >= best?.depth)) best = { layer, depth, corners, shares }; };
    if (!layer.faces) for (let i = 0; i < layer.count; i++) { if (u[i] ** 2 + v[i] ** 2 < 49) take(z[i], [i], [1]); }
    else for (let f = 0; f < layer.faces.length; f += 3) {
      const [a, b, c] = [layer.faces[f], layer.faces[f + 1], layer.faces[f + 2]];
      const A = u[b] * v[c] - u[c] * v[b], B = u[c] * v[a] - u[a] * v[c], C = u[a] * v[b] - u[b] * v[a], all = A + B + C;
      if (!all || A / all < 0 || B / all < 0 || C / all < 0 || Math.min(z[a], z[b], z[c]) <= 0) continue;
      take((A * z[a] + B * z[b] + C * z[c]) / all, [a, b, c], [A / all, B / all, C / all]);
    }
    return best;
  }

  listen() {
    const { canvas } = this, held = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => held.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId), here = [event.clientX, event.clientY];
      if (!before) return this.point(event.offsetX, event.offsetY);
      const [dx, dy] = [here[0] - before[0], here[1] - before[1]], height = canvas.clientHeight;
      if (held.size > 1) {
        const [other] = [...held].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        const span = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
        this.nearer(span(before) / span(here));
        this.pan(dx / 2 / height, -dy / 2 / height);
      } else if (event.shiftKey || event.buttons & 6) this.pan(dx / height, -dy / height);
      else this.turn((5 * dy) / height, (5 * dx) / height);
      held.set(event.pointerId, here);
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.nearer(Math.exp(clamp(event.deltaY, -200, 200) / 500));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const turns = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (turns && event.shiftKey) this.pan(turns[1] / 20, -turns[0] / 20);
      else if (turns) this.turn(turns[0] / 6, turns[1] / 6);
      else if (event.key === "+" || event.key === "=") this.nearer(1 / 1.2);
      else if (event.key === "-") this.nearer(1.2);
      else if (event.key === "Home" || event.key === "0") { this.home(); this.redraw(); }
      else if (event.key === "Enter") this.say(this.valueAt(canvas.clientWidth / 2, canvas.clientHeight / 2));
      else return;
      event.preventDefault();
    });
  }

  /** Say what is under the pointer, once for each picture of the screen. */
  point(x, y) {
    const busy = this.pointed;
    this.pointed = [x, y];
    if (!busy) requestAnimationFrame(() => { const at = this.pointed; this.pointed = undefined; this.say(this.valueAt(...at)); });
  }
}
