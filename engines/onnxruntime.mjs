#!/usr/bin/env node
// Runs an ONNX file of mqbench on ONNX Runtime's CPU provider and writes what its tensors hold.
//
//   onnxruntime.mjs check                     the engine's name, or why it cannot be used here (exit code 77)
//   onnxruntime.mjs run FILE LEVEL DIR        DIR/request: what to run and what to write; LEVEL: of graph optimization
//
// The package onnxruntime-node is looked for in the folder that MQBENCH_ONNXRUNTIME names, then beside this file and upwards.
// It works when installed with `npm install --ignore-scripts onnxruntime-node`.
import { createRequire } from "node:module";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join, resolve } from "node:path";

const BATCH = 8;
const MISSING = 77;

function fail(code, sentence) {
  console.log(sentence);
  process.exit(code);
}

function load() {
  const named = process.env.MQBENCH_ONNXRUNTIME;
  try {
    const require = createRequire(named ? join(named, "x.js") : resolve(process.argv[1]));
    return { ort: require("onnxruntime-node"), version: require("onnxruntime-node/package.json").version };
  } catch {
    // said below
  }
  return fail(MISSING,
    "onnxruntime-node is not installed (npm install --ignore-scripts onnxruntime-node; MQBENCH_ONNXRUNTIME names its folder)");
}

// Without VNNI its kernels for u8 x s8 saturate pairs of products to 16 bits.
function has_vnni() {
  if (process.arch !== "x64") return false;
  try {
    return /avx512_vnni|avx_vnni/.test(readFileSync("/proc/cpuinfo", "latin1"));
  } catch {
    return false;
  }
}

// ---- further outputs: a serialized message is merged with what is appended to it ----

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  bytes.push(value);
  return Buffer.from(bytes);
}

function field(number, content) {
  return Buffer.concat([varint(number * 8 + 2), varint(content.length), content]);
}

const ELEMENT_TYPES = { u8: 2, s8: 3 };

// ModelProto.graph.output += tensors of bytes
function with_outputs(model, tensors) {
  const outputs = tensors.map(({ name, type }) => {
    const element = Buffer.concat([varint(1 * 8), varint(ELEMENT_TYPES[type])]);
    return field(12, Buffer.concat([field(1, Buffer.from(name)), field(2, field(1, element))]));
  });
  return Buffer.concat([model, field(7, Buffer.concat(outputs))]);
}

// ---- run ----

function read_request(dir) {
  const request = { tensors: [] };
  for (const line of readFileSync(join(dir, "request"), "utf8").split("\n")) {
    const [word, ...rest] = line.split(" ");
    if (word === "input") request.dims = rest.map(Number);
    if (word === "tensor") request.tensors.push({ index: rest[0], type: rest[1], name: rest.slice(2).join(" ") });
  }
  return request;
}

// The logits are those of the file as it is: outputs for the tensors between keep an engine from optimizing across them, so they
// come from a second session.
async function run(file, level, dir) {
  const { ort } = load();
  const { dims, tensors } = read_request(dir);
  const model = readFileSync(file);
  const options = { executionProviders: ["cpu"], graphOptimizationLevel: level, intraOpNumThreads: 1, logSeverityLevel: 3 };
  const create = (bytes) => ort.InferenceSession.create(new Uint8Array(bytes), options);
  const plain = await create(model);
  const shown = tensors.length > 0 ? await create(with_outputs(model, tensors)) : null;
  const raw = readFileSync(join(dir, "input.f32"));
  const input = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
  const size = dims.slice(1).reduce((a, b) => a * b, 1);
  const files = tensors.map((tensor) => openSync(join(dir, tensor.index + ".nchw"), "w"));
  const logits_file = openSync(join(dir, "logits.f32"), "w");
  const write = (to, { data }) => writeSync(to, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  for (let first = 0; first < dims[0]; first += BATCH) {
    const count = Math.min(BATCH, dims[0] - first);
    const x = new ort.Tensor("float32", input.slice(first * size, (first + count) * size), [count, ...dims.slice(1)]);
    const feeds = { [plain.inputNames[0]]: x };
    write(logits_file, (await plain.run(feeds))[plain.outputNames[0]]);
    const result = shown ? await shown.run(feeds) : {};
    tensors.forEach((tensor, i) => write(files[i], result[tensor.name]));
  }
  [...files, logits_file].forEach((f) => closeSync(f));
}

const [word, ...rest] = process.argv.slice(2);
if (word === "check") {
  const { version } = load();
  const emulated = process.env.MQBENCH_EMULATED; // by onnxruntime_haswell.sh: a CPU without VNNI
  if (!emulated && !has_vnni()) fail(MISSING, "this CPU has no VNNI, so ONNX Runtime saturates pairs of products to 16 bits");
  console.log(`ONNX Runtime ${version}` + (emulated ? ` on an emulated ${emulated}` : ""));
} else if (word === "run" && rest.length === 3) {
  run(...rest).catch((error) => fail(1, String(error.message ?? error).split("\n")[0]));
} else {
  fail(2, "usage: onnxruntime.mjs check | run FILE LEVEL DIR");
}
