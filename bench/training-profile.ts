/**
 * Shows how a training step's time is divided among phases and ops. The engine's environment is read when a process
 * starts, so a separate process does the measurement.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { engineLibraryEnv } from '../src/platform/engine/installed.ts';
import { ENGINE_PROCESS_ENV } from '../workers/engine/process-env.ts';
import { TRAINED_ENCODERS } from './trained-encoders.ts';

const HELP = `usage: npm run bench:profile [-- <view side in px> <batch size> float32|bfloat16 LARS|SGD|ADAM|ADAMW RESNET18|RESNET50|VIT_S16]

Takes twenty SimCLR steps of a ResNet-18, or of the named encoder (two views of each image) and prints, as JSON, how long each phase and each kind of op took in its fastest step.

examples:
  npm run bench:profile                        64 px, batch 32, float32, LARS
  npm run bench:profile -- 224 16 bfloat16
  npm run bench:profile -- 64 32 float32 ADAMW
  npm run bench:profile -- 96 32 float32 ADAMW VIT_S16

exit code: 0 done; 1 failed; 2 invalid arguments.
`;

const PRECISIONS = ['float32', 'bfloat16'];
const OPTIMIZERS = ['LARS', 'SGD', 'ADAM', 'ADAMW'];
const ENCODERS: readonly string[] = TRAINED_ENCODERS;

/** The arguments of the measuring process; undefined if they are invalid. */
function parseMeasurement(positionals: readonly string[]): string[] | undefined {
  const [side = '64', batchSize = '32', precision = 'float32', optimizer = 'LARS', encoder = 'RESNET18', ...more] =
    positionals;
  const isCount = (text: string): boolean => /^[1-9]\d{0,4}$/.test(text);
  const isKnown = PRECISIONS.includes(precision) && OPTIMIZERS.includes(optimizer) && ENCODERS.includes(encoder);
  return more.length === 0 && isCount(side) && isCount(batchSize) && isKnown
    ? [side, batchSize, precision, optimizer, encoder]
    : undefined;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { help: { type: 'boolean', short: 'h' } },
});
const args = parseMeasurement(positionals);
if (values.help === true) process.stdout.write(HELP);
else if (args === undefined) {
  process.stderr.write(HELP);
  process.exitCode = 2;
} else {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'training-profile-ours.ts'), ...args], {
    env: { ...process.env, ...ENGINE_PROCESS_ENV, ...engineLibraryEnv() },
    stdio: 'inherit',
  });
  await once(child, 'close');
  process.exitCode = child.exitCode === 0 ? 0 : 1;
}
