/** Runs the attacks one after the other, each within its share of the time, and stops everything that they started. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createRandom } from '../test/support/mutations.ts';
import type { Attack, AttackOutcome, AttackContext } from './attack.ts';
import { startAttackedServer, type AttackedServer } from './attacked-server.ts';

/** The time of all attacks together, including the starts of servers. The rest of 15 minutes is for cleaning up. */
const FULL_MS = 780_000;
const QUICK_MS_EACH = 10_000;

export interface Campaign {
  readonly seed: number;
  readonly quick: boolean;
  readonly attacks: readonly Attack[];
  /** Ends the campaign early, and leaves nothing behind. */
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

export interface AttackReport extends AttackOutcome {
  readonly name: string;
  readonly about: string;
  readonly durationMs: number;
}

export interface CampaignReport {
  readonly startedAt: Date;
  readonly seed: number;
  readonly quick: boolean;
  readonly durationMs: number;
  /** Runnable processes, over the last minute of the campaign: on a busy machine fewer things are tried. */
  readonly loadAverage: number;
  readonly attacks: readonly AttackReport[];
}

/** @throws Error of an attack that could not be carried out, and the signal's reason. */
export async function runCampaign(campaign: Campaign): Promise<CampaignReport> {
  const { seed, quick, attacks, signal, onProgress } = campaign;
  const startedAt = new Date();
  const startedMs = performance.now();
  const home = await mkdtemp(path.join(os.tmpdir(), 'paraffin-attack-'));
  const shared = sharedServer(path.join(home, 'shared'));
  const reports: AttackReport[] = [];
  let sharesLeft = attacks.reduce((sum, { share }) => sum + share, 0);
  try {
    for (const attack of attacks) {
      signal.throwIfAborted();
      onProgress(`${attack.name}: ${attack.about}`);
      const beginMs = performance.now();
      // Time that one attack leaves over is given to the following ones.
      const shareMs = quick ? QUICK_MS_EACH : ((FULL_MS - (beginMs - startedMs)) * attack.share) / sharesLeft;
      sharesLeft -= attack.share;
      const lastMs = quick ? Infinity : startedMs + FULL_MS;
      const outcome = await execute(attack, { seed, quick, signal, shareMs, lastMs, shared, home });
      const durationMs = performance.now() - beginMs;
      reports.push({ name: attack.name, about: attack.about, durationMs, ...outcome });
      onProgress(
        `${attack.name}: ${outcome.tryCount} tries, ${outcome.findings.length} findings, ${Math.round(durationMs / 1000)} s`,
      );
      for (const finding of outcome.findings) onProgress(`  ${finding}`);
    }
    signal.throwIfAborted();
  } finally {
    await shared.stop();
    await rm(home, { recursive: true, force: true });
  }
  const durationMs = performance.now() - startedMs;
  return { startedAt, seed, quick, durationMs, loadAverage: os.loadavg()[0] ?? 0, attacks: reports };
}

interface Means {
  readonly seed: number;
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly shareMs: number;
  /** No new step begins after this moment, even if an attack has time left. */
  readonly lastMs: number;
  readonly shared: SharedServer;
  readonly home: string;
}

async function execute(attack: Attack, means: Means): Promise<AttackOutcome> {
  const { seed, quick, signal, shareMs, lastMs, shared, home } = means;
  let endMs = performance.now() + shareMs;
  /** The start of a server counts towards no attack's share, however slow the machine. */
  const withoutCounting = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    signal.throwIfAborted();
    const beginMs = performance.now();
    const result = await work();
    endMs += performance.now() - beginMs;
    return result;
  };
  const own: AttackedServer[] = [];
  const folder = (): Promise<string> => mkdtemp(path.join(home, `${attack.name}-`));
  const context: AttackContext = {
    quick,
    random: createRandom(seed),
    isTimeLeft: () => performance.now() < Math.min(endMs, lastMs) && !signal.aborted,
    signal,
    server: () => withoutCounting(shared.get),
    startServer: ({ dataDir, env } = {}) =>
      withoutCounting(async () => {
        const server = await startAttackedServer(dataDir ?? (await folder()), env);
        own.push(server);
        return server;
      }),
    folder,
  };
  try {
    const outcome = await attack.run(context);
    const fault = await shared.fault();
    return fault === undefined
      ? outcome
      : { ...outcome, findings: [...outcome.findings, `After the attack ${fault}.`] };
  } finally {
    for (const server of own) await server.stop();
  }
}

interface SharedServer {
  get(): Promise<AttackedServer>;
  /** What is wrong with the server, if it was started. */
  fault(): Promise<string | undefined>;
  stop(): Promise<void>;
}

function sharedServer(dataDir: string): SharedServer {
  let current: AttackedServer | undefined;
  return {
    get: async () => {
      if (current !== undefined && (await current.fault()) !== undefined) {
        await current.stop();
        current = undefined;
      }
      current ??= await startAttackedServer(dataDir);
      return current;
    },
    fault: async () => current?.fault(),
    stop: async () => current?.stop(),
  };
}
