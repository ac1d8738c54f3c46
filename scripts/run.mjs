/** Runs one of our programs under the pinned Node: `node scripts/run.mjs <file.ts> [arguments]`. */
import { spawn } from 'node:child_process';
import { compileCache, pinnedNode, prepare, preparePages } from './prepare.mjs';

prepare();
// Whatever serves people needs the pages; all else starts without them.
if (['serve', 'demo'].includes(process.argv[3] ?? '')) preparePages();
// Node keeps what it made of our TypeScript: the second start, and every process of the program, begins in a third of
// the time.
const env = { NODE_COMPILE_CACHE: compileCache, ...process.env };
const child = spawn(pinnedNode, ['--disable-warning=ExperimentalWarning', ...process.argv.slice(2)], {
  stdio: 'inherit',
  env,
});
// A terminal's Ctrl-C reaches the program and us; a signal sent to us alone does not reach it. Passing both on is safe:
// the program takes a repeated signal within a second for the same one.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal === null ? (code ?? 1) : 130));
