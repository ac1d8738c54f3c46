/** Runs one of our programs under the pinned Node: `node scripts/run.mjs <file.ts> [arguments]`. */
import { compileCache, pinnedNode, prepare, preparePages } from './prepare.mjs';
import { supervise } from './supervise.mjs';

prepare();
const verb = process.argv[3] ?? '';
// Commands that serve pages need them to be built; all others start without them.
if (['serve', 'demo'].includes(verb)) preparePages();
await supervise(pinnedNode, ['--disable-warning=ExperimentalWarning', ...process.argv.slice(2)], {
  // Node caches our compiled TypeScript, so that the second start, and every process of the program, takes a third of
  // the time.
  env: { NODE_COMPILE_CACHE: compileCache, ...process.env },
  restart: verb === 'serve',
});
