// Time of ONNX Runtime (CPU) on a quantized model: usage: infer.mjs MODEL BATCH THREADS SECONDS
// Prints the wall-clock and the processor time of a batch, least and median, in milliseconds: wall-min wall-median cpu-min cpu-median
import { createRequire } from "node:module";

const ort = createRequire(import.meta.url)(process.env.ORT_DIR || "onnxruntime-node");
const model = process.argv[2];
const [batch, threads, seconds] = process.argv.slice(3).map(Number);
const session = await ort.InferenceSession.create(model, {
  executionProviders: ["cpu"], intraOpNumThreads: threads, interOpNumThreads: 1, executionMode: "sequential",
  graphOptimizationLevel: "all", extra: { session: { intra_op: { allow_spinning: "0" } } },
});
const size = Number(process.env.SIZE);
const data = Float32Array.from({ length: batch * 3 * size * size }, (_, i) => ((i * 7919) % 1001) / 250 - 2);
const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", data, [batch, 3, size, size]) };
const wall = [], cpu = [];
for (let k = -2, start = performance.now(); k < 7 || (performance.now() - start < seconds * 1e3 && k < 400); k++) {
  const t = performance.now(), c = process.cpuUsage();
  await session.run(feeds);
  const used = process.cpuUsage(c);
  if (k >= 0) {
    wall.push(performance.now() - t);
    cpu.push((used.user + used.system) / 1e3);
  }
}
const ends = (times) => {
  times.sort((a, b) => a - b);
  return `${times[0].toFixed(3)} ${times[times.length >> 1].toFixed(3)}`;
};
console.log(`${ends(wall)} ${ends(cpu)}`);
