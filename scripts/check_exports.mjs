// Reads rigged models with the Khronos validator and with three.js in a headless browser; see check_exports.py.
//
//     node check_exports.mjs FOLDER CHROMIUM
//
// FOLDER holds node_modules (three, gltf-validator, puppeteer-core), models and jobs.json: [{file, poses: [{bones, morphs, time}]}].
// Writes answers.json beside: what the validator says of each, and the vertices that three.js shows in each pose.
import fs from 'fs';
import http from 'http';
import path from 'path';
import { createRequire } from 'module';

const [folder, chromium] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), 'package.json'));
const validator = require('gltf-validator');
const puppeteer = require('puppeteer-core');
const jobs = JSON.parse(fs.readFileSync(path.join(folder, 'jobs.json')));

const PAGE = `<!doctype html><meta charset=utf-8><title>check</title><link rel="icon" href="data:,"><body style="margin:0;background:#fafaf8">
<script type="importmap">{"imports": {"three": "/node_modules/three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from 'three';
import { GLTFLoader } from '/node_modules/three/examples/jsm/loaders/GLTFLoader.js';

// three.js skins by one set of four weights, scaled to a sum of one; a second set is loaded, and added here by the same
// function: skinning is linear in the weights.
function skinned(mesh) {
  const {skinIndex, skinWeight, joints_1, weights_1, position} = mesh.geometry.attributes;
  const at = new THREE.Vector3(), first = new THREE.Vector3(), second = new THREE.Vector3(), out = [];
  for (let i = 0; i < position.count; i++) {
    const rest = weights_1 ? weights_1.getX(i) + weights_1.getY(i) + weights_1.getZ(i) + weights_1.getW(i) : 0;
    mesh.getVertexPosition(i, first);
    if (rest > 0) {
      first.multiplyScalar(1 - rest);
      mesh.geometry.attributes.skinIndex = joints_1;
      mesh.geometry.attributes.skinWeight = weights_1;
      mesh.getVertexPosition(i, second);
      mesh.geometry.attributes.skinIndex = skinIndex;
      mesh.geometry.attributes.skinWeight = skinWeight;
      first.add(second);
    }
    mesh.localToWorld(first);
    out.push(first.x, first.y, first.z);
  }
  return out;
}

window.check = async ({file, poses}) => {
  const {scene, animations} = await new GLTFLoader().loadAsync('/' + file);
  const answers = [];
  let mesh;
  scene.traverse((node) => { if (node.isSkinnedMesh) mesh = node; });
  const mixer = new THREE.AnimationMixer(scene);
  if (animations.length) {
    const action = mixer.clipAction(animations[0]).setLoop(THREE.LoopOnce).play();
    action.clampWhenFinished = true;
  }
  for (const pose of poses) {
    if (pose.time !== undefined) mixer.setTime(pose.time);
    // Bones by number: three.js takes signs such as colons out of names.
    (pose.bones ?? []).forEach((q, k) => mesh.skeleton.bones[k].quaternion.set(...q));
    (pose.morphs ?? []).forEach((w, k) => { mesh.morphTargetInfluences[k] = w; });
    scene.updateMatrixWorld(true);
    mesh.skeleton.update();
    answers.push(skinned(mesh));
  }
  const stage = new THREE.Scene(), box = new THREE.Box3().setFromObject(scene, true);
  stage.add(scene, new THREE.HemisphereLight(0xffffff, 0x8888aa, 3));
  const size = box.getSize(new THREE.Vector3()), middle = box.getCenter(new THREE.Vector3());
  const half = 0.55 * Math.max(size.x, size.y);
  const camera = new THREE.OrthographicCamera(-half, half, half, -half, -10, 10);
  camera.position.set(middle.x, middle.y, 0);
  const renderer = new THREE.WebGLRenderer({antialias: true, preserveDrawingBuffer: true});
  renderer.setSize(600, 600);
  renderer.setClearColor(0xfafaf8);
  document.body.replaceChildren(renderer.domElement);
  renderer.render(stage, camera);
  return {vertices: answers, names: mesh.skeleton.bones.map((bone) => bone.name)};
};
window.ready = true;
</script>`;

const TYPES = {'.js': 'text/javascript', '.glb': 'model/gltf-binary'};
const server = http.createServer((request, response) => {
  const name = decodeURIComponent(request.url.slice(1));
  if (name === '') {
    response.setHeader('Content-Type', 'text/html');
    response.end(PAGE);
  } else if (fs.existsSync(path.join(folder, name))) {
    response.setHeader('Content-Type', TYPES[path.extname(name)] ?? 'application/octet-stream');
    response.end(fs.readFileSync(path.join(folder, name)));
  } else {
    response.statusCode = 404;
    response.end();
  }
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const options = ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'];
const browser = await puppeteer.launch({executablePath: chromium, headless: true, args: options});
const page = await browser.newPage();
await page.setViewport({width: 600, height: 600});
const complaints = [];
page.on('console', (message) => complaints.push(message.text()));
page.on('pageerror', (error) => complaints.push(String(error)));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.waitForFunction('window.ready');
const answers = [];
for (const job of jobs) {
  const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(path.join(folder, job.file))));
  const found = await page.evaluate((given) => window.check(given), job);
  await page.screenshot({path: path.join(folder, job.file.replace(/\.glb$/, '.png'))});
  answers.push({file: job.file, issues: report.issues, ...found});
}
await browser.close();
server.close();
fs.writeFileSync(path.join(folder, 'answers.json'), JSON.stringify({answers, complaints}));
