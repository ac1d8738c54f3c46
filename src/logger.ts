/** Structured logs: one JSON object per line on standard error, so that standard output contains only results. */
import { pino, type Logger as PinoLogger } from 'pino';

export type Logger = PinoLogger;

/** @param level pino's level name, `silent` included. */
export function createLogger(level: string, name: string): Logger {
  // An Error has no enumerable properties: without a serializer, its message and stack would be missing.
  const serializers = { err: pino.stdSerializers.err, error: pino.stdSerializers.err };
  return pino({ level, name, base: { pid: process.pid }, serializers }, pino.destination({ dest: 2, sync: true }));
}
