/** The server process: env -> app -> listen -> drain. */
import { handleUncaughtErrors } from './platform/uncaught-errors.ts';
import { onStopSignal } from './platform/stop-signal.ts';
import { startApp, type App } from './app.ts';
import { readEnvironment } from './env.ts';
import { createLogger } from './logger.ts';
import { ENGINE_INSTALL_COMMAND, isEngineInstalled } from './platform/engine/installed.ts';

/** Serves until a signal asks it to stop; resolves when everything that it started has ended. */
export async function serve(): Promise<void> {
  const env = readEnvironment();
  const logger = createLogger(env.logLevel, 'server');
  let stop: App['stop'] = async () => undefined;
  handleUncaughtErrors(logger, () => stop());
  // A reader that closes the pipe after the lines below must not end the server.
  process.stdout.removeAllListeners('error').on('error', () => undefined);
  const app = await startApp(env, logger);
  ({ stop } = app);
  const signal = onStopSignal(() => app.stop());
  // The supervisor (scripts/supervise.mjs) died, so Ctrl-C would no longer reach this server.
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel?.unref();
  process.stdout.write(
    `Paraffin is at ${app.url}/ and its GraphQL at ${app.url}/graphql\nData: ${env.dataDir}\nThe first ADMIN key is in ${app.adminKeyFile}\n`,
  );
  if (!isEngineInstalled())
    process.stdout.write(
      `The TensorFlow engine is not installed, so trainings and evaluations wait. Install it with "${ENGINE_INSTALL_COMMAND}".\n`,
    );
  await signal.requested;
  await app.stop();
}
