/** The process that reads one file of weights: what it chokes on ends here, not the server. The task is a line on standard input. */
import { DomainError } from '../../errors.ts';
import { readEncoderFile } from './encoder-file.ts';
import { encoderFileTaskSchema, type ProcessAnswer } from './encoder-process.ts';

const CHUNK_BYTES = 1024 * 1024;

async function taskLine(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  return text;
}

/** Waits until there is room: what is not taken yet is not copied either. */
async function write(bytes: Uint8Array | string): Promise<void> {
  await new Promise<void>((resolve, reject) => process.stdout.write(bytes, (error) => (error === null || error === undefined ? resolve() : reject(error))));
}

const say = (answer: ProcessAnswer): Promise<void> => write(`${JSON.stringify(answer)}\n`);

try {
  const { bytes, ...facts } = await readEncoderFile(encoderFileTaskSchema.parse(JSON.parse(await taskLine())));
  await say({ outcome: 'READ', facts, byteSize: bytes.length });
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) await write(bytes.subarray(start, start + CHUNK_BYTES));
} catch (error) {
  if (!(error instanceof DomainError)) throw error;
  const { code, message, field = null, hint = null } = error;
  await say({ outcome: 'REFUSED', code, message, field, hint });
}
process.exit(0);
