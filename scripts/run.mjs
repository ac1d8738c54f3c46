/** Runs one of our programs under the pinned Node: `node scripts/run.mjs <file.ts> [arguments]`. */
import { compileCache, pinnedNode, prepare, preparePages } from './prepare.mjs';
import { supervise } from './supervise.mjs';

prepare();
const verb = process.argv[3] ?? '';
// Commands that serve people need the pages; all others start without them.
if (['serve', 'demo'].includes(verb)) preparePages();
await supervise(pinnedNode, ['--disable-warning=ExperimentalWarning', ...process.argv.slice(2)], {
  // Node keeps what it made of our TypeScript: the second start, and every process of the program, begins in a third of
  // the time.
  env: { NODE_COMPILE_CACHE: compileCache, ...process.env },
  restart: verb === 'serve',
});
