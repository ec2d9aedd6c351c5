// Trains small models of every kind with souk, and compares its predictions with onnxruntime's.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync, rmSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web';

const souk = join(process.env.SOUK_BIN, 'souk');
const folder = join(tmpdir(), `souk-onnx-${process.pid}`);
mkdirSync(folder);
ort.env.wasm.numThreads = 1;

let state = 12345;
const random = () => ((state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 8) / 2 ** 24;

function idx(name, sides, values) {
  const header = Buffer.alloc(4 + 4 * sides.length);
  header.writeUInt32BE(0x800 + sides.length, 0);
  sides.forEach((side, i) => header.writeUInt32BE(side, 4 + 4 * i));
  writeFileSync(join(folder, name), Buffer.concat([header, Buffer.from(values)]));
  return join(folder, name);
}

const call = (...args) => JSON.parse(execFileSync(souk, [...args, '--json'], { encoding: 'utf8', maxBuffer: 1 << 28 }));

async function compare(name, spec, data, rows, sides) {
  const out = join(folder, name);
  const trained = call('train-local', spec, '--data', ...data, '--out', out);
  const told = call('model', 'predict', out, '--data', ...data);
  const session = await ort.InferenceSession.create(readFileSync(join(out, 'model.onnx')));
  const result = await session.run({ input: new ort.Tensor('float32', Float32Array.from(rows), [told.rows, ...sides]) });
  const own = told.probabilities ?? told.outputs;
  const theirs = (result.probabilities ?? result.logits).data;
  const width = theirs.length / told.rows;
  let worst = 0;
  for (let r = 0; r < told.rows; ++r) {
    for (let c = 0; c < width; ++c) {
      // A single logit of BCE is the probability of the second class.
      const mine = width === 1 && own[r].length === 2 ? own[r][1] : own[r][c];
      worst = Math.max(worst, Math.abs(mine - theirs[r * width + c]));
    }
  }
  console.log(`${name}: ${trained.parameters} parameters, ${told.rows} rows, largest difference ${worst}`);
  if (!(worst <= 1e-4) || !(trained.steps > 0)) process.exitCode = 1;
}

const contract = (name, text) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const train = 'train = { steps = 6, batch = 8, shuffle = true, optimizer = sgd { momentum = 0.9 }, learning_rate = 0.05, seed = 3 }, payment = 0';

const images = 40, side = 12;
const pixels = Array.from({ length: images * side * side }, () => Math.floor(random() * 256));
const labels = Array.from({ length: images }, (_, i) => i % 3);
const pictures = [idx('images', [images, side, side], pixels), idx('labels', [images], labels)];
await compare('picture', contract('picture.lua', `return { purpose = "test", datasets = { "any" },
  model = { conv2d { units = 8, kernel = 3, padding = 1 }, group_norm { groups = 4, name = "a" }, silu { name = "b" },
    conv2d { units = 8, kernel = 3, padding = 1, groups = 2, bias = false }, gelu(), add { from = { "b" } , name = "c" },
    max_pool { kernel = 3, stride = 2, padding = 1, name = "m" }, leaky_relu { slope = 0.1 }, concat { from = { "m" } },
    avg_pool { kernel = 3, stride = 2, padding = 1 }, dropout { rate = 0.2 }, tanh(), flatten(), linear { units = 7 }, sigmoid(),
    linear { units = 3 } },
  input = { mean = 128, scale = 1 / 64 }, ${train} }`), pictures, pixels, [1, side, side]);

writeFileSync(join(folder, 'net.cfg'), `[net]
height=${side}
width=${side}
channels=1
batch=8
max_batches=8
learning_rate=0.05
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[dropout]
probability=0.5
[convolutional]
filters=3
size=1
activation=leaky
[avgpool]
[softmax]
`);
await compare('darknet', join(folder, 'net.cfg'), pictures, pixels, [1, side, side]);

const people = 60, lines = ['age,work,gain,kind'], table = [];
const works = ['private', 'state', 'other'];
for (let i = 0; i < people; ++i) {
  const age = 20 + Math.floor(random() * 40), work = Math.floor(random() * 4), gain = Math.floor(random() * 1000);
  lines.push(`${age},${work === 0 ? '?' : works[work - 1]},${gain},${age + 10 * work > 50 ? 'yes' : 'no'}`);
  table.push(age, work, gain);
}
writeFileSync(join(folder, 'people.csv'), lines.join('\n') + '\n');
const csv = `csv = { missing = "?", columns = { "age", { name = "work", values = { "private", "state", "other" } }, "gain",
  { name = "kind", role = "label", values = { "no", "yes" } } } }, input = { mean = { 40, 0, 500 }, scale = { 0.1, 1, 0.002 } }`;
const tabular = (last, more) => `return { purpose = "test", datasets = { "any" }, ${csv},
  model = { embedding { columns = { "work" }, categories = 4, units = 3, name = "e" }, columns { columns = { "age", "gain" } },
    concat { from = { "e" } }, linear { units = 8 }, relu(), layer_norm(), linear { units = ${last} } },
  ${train.replace('steps = 6', `${more} steps = 6`)} }`;
await compare('tabular', contract('tabular.lua', tabular(2, '')), [join(folder, 'people.csv')], table, [3]);
await compare('one_logit', contract('one.lua', tabular(1, 'loss = "bce",')), [join(folder, 'people.csv')], table, [3]);

rmSync(folder, { recursive: true });
