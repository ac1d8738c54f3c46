/**
 * Downloads and uploads a checkpoint with the command line over a network that breaks off at random and is slow
 * afterwards.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { Random } from './random.ts';
import { startTcpProxy, type TcpProxy } from '../test/support/tcp-proxy.ts';
import type { ChaosPromise } from './report.ts';
import type { SystemUnderTest } from './system-under-test.ts';

/** A checkpoint has 45 MB, so a transfer completes only if it is resumed. */
const RESETS_MIN = 4;
const RESET_AFTER_BYTES = { min: 2_000_000, max: 10_000_000 };
/** The bandwidth of a slow connection. */
const SLOW_BYTES_PER_SECOND = 4_000_000;

/** @param runId of a training that has ended. */
export async function transferOverBadNetwork(
  system: SystemUnderTest,
  random: Random,
  runId: string,
): Promise<ChaosPromise[]> {
  const found = z.object({
    run: z.object({ checkpoints: z.tuple([z.object({ id: z.string(), sha256: z.string() })]) }),
  });
  const [checkpoint] = (
    await system
      .client()
      .request(found, 'query ($id: ID!) { run(id: $id) { checkpoints { id sha256 } } }', { id: runId })
  ).run.checkpoints;
  const proxy = await startTcpProxy(() => Promise.resolve(Number(new URL(system.client().url).port)));
  const url = `http://127.0.0.1:${proxy.port}`;
  const file = path.join(system.folder, 'downloaded.safetensors');
  try {
    const down = await withBadNetwork(proxy, system, random, async () => {
      await system.paraffin('download', checkpoint.id, '--out', file, '--url', url, '--quiet');
      return createHash('sha256')
        .update(await readFile(file))
        .digest('hex');
    });
    const up = await withBadNetwork(proxy, system, random, async () => {
      const contract = ['--image-size', '32', '--mean', '0.5,0.5,0.5', '--std', '0.5,0.5,0.5'];
      await system.paraffin(
        'models',
        'import',
        file,
        '--model',
        'chaos-uploaded',
        ...contract,
        '--url',
        url,
        '--quiet',
      );
      const imported = z.object({
        model: z.object({
          checkpoints: z.object({ nodes: z.array(z.object({ importedFrom: z.object({ sha256: z.string() }) })) }),
        }),
      });
      const { model } = await system
        .client()
        .request(
          imported,
          '{ model(slug: "chaos-uploaded") { checkpoints(first: 10) { nodes { importedFrom { sha256 } } } } }',
        );
      return model.checkpoints.nodes.map((node) => node.importedFrom.sha256).join(' and ');
    });
    const promiseOf = (what: string, { result, breaks, seconds }: Transfer): ChaosPromise => ({
      promise: `${what} over a network that breaks off, then is slow, is resumed and complete`,
      held: result === checkpoint.sha256 && breaks > 0,
      seen:
        result === checkpoint.sha256
          ? `broken off ${breaks} times, then ${SLOW_BYTES_PER_SECOND / 1e6} MB/s; the right sha256 after ${seconds.toFixed(1)} s`
          : result,
    });
    return [promiseOf('a download', down), promiseOf('an upload', up)];
  } finally {
    await proxy.close();
  }
}

interface Transfer {
  /** A sha256, or the reason why there is none. */
  readonly result: string;
  readonly breaks: number;
  readonly seconds: number;
}

async function withBadNetwork(
  proxy: TcpProxy,
  system: SystemUnderTest,
  random: Random,
  transfer: () => Promise<string>,
): Promise<Transfer> {
  const before = proxy.resetCount();
  const startMs = performance.now();
  let isOver = false;
  proxy.resetAfter(() => RESET_AFTER_BYTES.min + random() * (RESET_AFTER_BYTES.max - RESET_AFTER_BYTES.min));
  const done = transfer()
    .catch((error: unknown) => String(error))
    .finally(() => {
      isOver = true;
    });
  await system.waiting.until(
    'the network to have broken off',
    () => Promise.resolve(isOver || proxy.resetCount() >= before + RESETS_MIN),
    120_000,
  );
  proxy.limitRate(SLOW_BYTES_PER_SECOND);
  const result = await done;
  return { result, breaks: proxy.resetCount() - before, seconds: (performance.now() - startMs) / 1000 };
}
