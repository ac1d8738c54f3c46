/** `paraffin serve`: the server with its worker, until stopped. */
import { parseArgs } from 'node:util';
import { serve } from '../main.ts';

const HELP = `usage: npm start

Serves until stopped: GraphQL over HTTP and WebSocket at /graphql, downloads, /healthz, /readyz, /metrics, and one worker.
Everything is kept under PARAFFIN_DATA_DIR (default .paraffin). Ctrl-C stops in good order: a running training keeps its
state and goes on at the next start.

The README lists every variable. Examples:
  npm start
  PARAFFIN_PORT=8080 PARAFFIN_IMPORT_ROOTS=/data/slides npm start
`;

export async function serveCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { help: { type: 'boolean', short: 'h' } } });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  await serve();
  return 0;
}
