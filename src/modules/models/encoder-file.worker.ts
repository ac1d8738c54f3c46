/** The thread that reads one file of weights: what it chokes on ends here, not the server. */
import { parentPort, workerData } from 'node:worker_threads';
import { DomainError } from '../../errors.ts';
import { readEncoderFile } from './encoder-file.ts';
import { encoderFileTaskSchema, type ThreadAnswer } from './encoder-thread.ts';

const answer = await readEncoderFile(encoderFileTaskSchema.parse(workerData)).then(
  (file): ThreadAnswer => ({ outcome: 'READ', file }),
  (error: unknown): ThreadAnswer => {
    if (!(error instanceof DomainError)) throw error;
    const { code, message, field = null, hint = null } = error;
    return { outcome: 'REFUSED', code, message, field, hint };
  },
);
parentPort?.postMessage(answer, answer.outcome === 'READ' ? [answer.file.bytes.buffer] : []);
