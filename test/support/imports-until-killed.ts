/**
 * A process that imports, and kills itself with SIGKILL at a given point.
 *
 * Arguments: URL of the database, data directory, id of the run, and the point as JSON.
 */
import { openDatabase, transactionsOf } from '../../src/platform/db.ts';
import { interruptedImport, type InterruptionPoint } from './interrupted-import.ts';
import { createTaskRunner } from './task-runner.ts';

const [url = '', dataDir = '', runId = '', json = '{}'] = process.argv.slice(2);
const point: InterruptionPoint = JSON.parse(json);
const db = openDatabase(url, { maxConnections: 2 });
const runner = await createTaskRunner({ url, db, transact: transactionsOf(db), close: async () => undefined }, dataDir);
const task = interruptedImport(point, () => {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('The process survived SIGKILL.');
});
await (await runner.claim(task, runId)).execute();
