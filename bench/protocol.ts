/**
 * What the worker protocol costs a training: the time of a step that is reported over HTTP to a real server with a real
 * database, while another process renews the lease every second, against that of a step that is not reported. The
 * machine is shared, so the processor time of the training process is measured too, and how long the steps waited in
 * the calls of the reporter, which other load on the machine changes least.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { openDatabase } from '../src/platform/db.ts';
import { NO_CAPABILITIES } from '../src/protocol/requirements.ts';
import { PROTOCOL_VERSION } from '../src/protocol/worker-calls.ts';
import { createRunRegistry, createWorkerRegistry } from '../workers/registry/http.ts';
import type { BenchedServer } from './server.ts';
import { median, summarise, type Summary } from './summary.ts';

const halfSchema = z.object({ durationsMs: z.array(z.number()), inCallsMs: z.number(), cpuMs: z.number() });
const roundSchema = z.object({ reported: halfSchema, silent: halfSchema });
/** The same number of steps with and without reports. */
export type ProtocolRound = z.infer<typeof roundSchema>;
export type SteppedHalf = z.infer<typeof halfSchema>;

export interface ProtocolBenchResult {
  readonly stepsPerHalf: number;
  /** Medians of the rounds. */
  readonly stepMs: { readonly reported: Summary; readonly silent: Summary };
  /** Of all threads of the training process, per step. */
  readonly cpuMsPerStep: { readonly reported: Summary; readonly silent: Summary };
  /** By how much the reported half of a round takes longer, in percent. */
  readonly overheadPercent: Summary;
  readonly cpuOverheadPercent: Summary;
  /** The time that steps wait in the calls of the reporter, in percent of a step. */
  readonly inCallsPercent: Summary;
}

const STEPS_PER_HALF = 10;
const RENEW_EVERY_MS = 1_000;

/** @throws Error if the training or a call of the protocol fails. */
export async function benchProtocol(server: BenchedServer, rounds: number): Promise<ProtocolBenchResult> {
  const db = openDatabase(server.databaseUrl, { maxConnections: 1 });
  const { id } = await db.run
    .create({ data: { kind: 'PRETRAINING', title: 'bench', config: {} } })
    .finally(() => db.$disconnect());
  const key = (await readFile(path.join(server.dataDir, 'admin-key'), 'utf8')).trim();
  const claimed = await createWorkerRegistry({ url: server.url, token: key }).claim(
    {
      ...{ protocolVersion: PROTOCOL_VERSION, programVersion: 'bench', workerName: 'bench', kinds: ['PRETRAINING'] },
      ...{ deviceId: null, runId: id, waitSeconds: 0, capabilities: NO_CAPABILITIES },
    },
    AbortSignal.timeout(30_000),
  );
  if (claimed === undefined) throw new Error('The run of the benchmark could not be claimed.');
  const registry = createRunRegistry({ url: server.url, token: claimed.token }, id, { patience: {} });
  let renewalFault: unknown;
  const renewal = setInterval(() => {
    registry.renew({ busySeconds: 0 }).catch((error: unknown) => (renewalFault ??= error));
  }, RENEW_EVERY_MS);
  try {
    const measured = await train(server.url, id, claimed.token, rounds);
    if (renewalFault !== undefined) throw new Error('The lease could not be renewed.', { cause: renewalFault });
    return summaryOf(measured);
  } finally {
    clearInterval(renewal);
  }
}

async function train(url: string, runId: string, token: string, rounds: number): Promise<readonly ProtocolRound[]> {
  const program = path.join(import.meta.dirname, 'protocol-ours.ts');
  const child = spawn(process.execPath, [program, url, runId, String(rounds), String(STEPS_PER_HALF)], {
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2', BENCH_RUN_TOKEN: token },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  const output = await text(child.stdout);
  await closed;
  if (child.exitCode !== 0) throw new Error('The training of the benchmark failed.');
  return z.object({ rounds: z.array(roundSchema) }).parse(JSON.parse(output)).rounds;
}

export function summaryOf(rounds: readonly ProtocolRound[]): ProtocolBenchResult {
  const of = (measure: (round: ProtocolRound) => number): Summary => summarise(rounds.map(measure));
  const stepMs = ({ durationsMs }: SteppedHalf): number => median(durationsMs);
  const cpuMs = ({ cpuMs: all, durationsMs }: SteppedHalf): number => all / durationsMs.length;
  const inCallsMs = ({ inCallsMs: all, durationsMs }: SteppedHalf): number => all / durationsMs.length;
  return {
    stepsPerHalf: rounds[0]?.reported.durationsMs.length ?? 0,
    stepMs: { reported: of(({ reported }) => stepMs(reported)), silent: of(({ silent }) => stepMs(silent)) },
    cpuMsPerStep: { reported: of(({ reported }) => cpuMs(reported)), silent: of(({ silent }) => cpuMs(silent)) },
    overheadPercent: of(({ reported, silent }) => 100 * (stepMs(reported) / stepMs(silent) - 1)),
    cpuOverheadPercent: of(({ reported, silent }) => 100 * (cpuMs(reported) / cpuMs(silent) - 1)),
    inCallsPercent: of(({ reported }) => (100 * inCallsMs(reported)) / stepMs(reported)),
  };
}
