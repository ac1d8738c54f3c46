/**
 * A process that embeds until half of the images are done, says so, and then waits to be killed.
 *
 * Arguments: URL of the database, data directory, id of the run, and the config of the task as JSON.
 */
import { openDatabase, transactionsOf } from '../../src/platform/db.ts';
import { embeddingTask, type EmbeddingTaskConfig } from './embedding-task.ts';
import { createTaskRunner } from './task-runner.ts';

const [url = '', dataDir = '', runId = '', json = '{}'] = process.argv.slice(2);
const config: EmbeddingTaskConfig = JSON.parse(json);
const db = openDatabase(url, { maxConnections: 2 });
const runner = await createTaskRunner({ url, db, transact: transactionsOf(db), close: async () => undefined }, dataDir);
const task = embeddingTask(config, async (fraction) => {
  if (fraction < 0.5) return;
  console.log('half of it is done');
  // A timer keeps the process alive.
  await new Promise(() => setInterval(() => undefined, 60_000));
});
await (await runner.claim(task, runId)).execute();
