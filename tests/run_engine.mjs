// Runs exported models for test_live.py: one JSON request per line on stdin, one JSON answer per line on stdout.
//   {model: base64, inputs: [[numbers], …], wasm: bool}  ->  {engine, outputs: [[numbers], …]} or {error}
import { createInterface } from "node:readline";
import { Network } from "../helpers/live/engine.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { model, inputs, wasm } = JSON.parse(line);
    const network = new Network(new Uint8Array(Buffer.from(model, "base64")), { wasm });
    inputs.forEach((numbers, i) => network.inputs[i].data.set(numbers));
    for (let i = 0; i < 2; i++) network.run(); // twice: a run must not disturb the next one
    answer = { engine: network.engine, outputs: network.outputs.map(({ data }) => [...data]) };
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer, (_, x) => (typeof x === "number" && !Number.isFinite(x) ? String(x) : x)));
}
