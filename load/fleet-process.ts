/**
 * Simulated workers in a process of their own, so that they do not delay the clients of the load: each claims a run,
 * renews its lease and reports a step every second, gives the run back after a while, and claims the next. The first
 * message says whom they work for, the second ends them; the answer is a FleetResult.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError } from '../src/errors.ts';
import { NO_CAPABILITIES } from '../src/protocol/requirements.ts';
import { RUN_KINDS } from '../src/protocol/runs.ts';
import { PROTOCOL_VERSION, type Claim, type ClaimedRun } from '../src/protocol/worker-calls.ts';
import { createRunRegistry, createWorkerRegistry, type Door } from '../workers/registry/http.ts';
import { untilRegistryAnswers, type Patience } from '../workers/registry/patience.ts';
import { latenciesOf } from './arrival.ts';
import { fleetOrdersSchema, type FleetResult } from './fleet.ts';

/** As the agent renews. */
const RENEW_EVERY_MS = 1_000;
/**
 * The mean; short, so that a minute has hundreds of claims. Each hold lasts between half and one and a half times as
 * long, and begins at any moment of a second: workers whose runs are all equally long, or that renew at the same
 * moment, would queue behind each other for ever, as those of a lab do not.
 */
const HOLD_MS = 20_000;
const ERRORS_SHOWN = 5;

const over = new AbortController();
const claims: number[] = [];
const renewals: number[] = [];
const reports: number[] = [];
const errors: string[] = [];
let errorCount = 0;
let repeatedCount = 0;

/** A call is sent again when its connection was just being closed as idle; a refusal of a busy server is a failure. */
const patience: Patience = {
  onWait: (reason) => {
    if (reason instanceof DomainError && reason.code === 'REGISTRY_UNREACHABLE') repeatedCount += 1;
    else note(reason);
  },
};

function note(error: unknown): void {
  errorCount += 1;
  if (errors.length < ERRORS_SHOWN) errors.push(String(error));
}

process.once('message', (message) => {
  const { url, key, workerCount } = fleetOrdersSchema.parse(message);
  process.once('message', () => over.abort());
  const all = Array.from({ length: workerCount }, (_, index) =>
    work({ url, token: key }, `load-${index}`, Math.random() * HOLD_MS),
  );
  void Promise.all(all).then(() => {
    const result: FleetResult = {
      workerCount,
      claims: latenciesOf(claims, 0),
      renewals: latenciesOf(renewals, 0),
      reports: latenciesOf(reports, 0),
      repeatedCount,
      errorCount,
      errors,
    };
    process.send?.(result, () => process.exit(0));
  });
});

/** @param startsAfterMs spreads the workers over the time for which they hold a run. */
async function work(door: Door, workerName: string, startsAfterMs: number): Promise<void> {
  const registry = createWorkerRegistry(door);
  await untilOver(startsAfterMs);
  while (!over.signal.aborted) {
    const sentMs = performance.now();
    const claim: Claim = {
      ...{ protocolVersion: PROTOCOL_VERSION, programVersion: 'load', workerName, kinds: [...RUN_KINDS] },
      ...{ deviceId: null, runId: null, waitSeconds: 0, capabilities: NO_CAPABILITIES },
    };
    const claimed = await counted(() =>
      untilRegistryAnswers(() => registry.claim(claim, over.signal), { ...patience, stopping: over.signal }),
    );
    if (claimed === undefined) await untilOver(RENEW_EVERY_MS);
    else {
      claims.push(performance.now() - sentMs);
      await carry(door.url, claimed);
    }
  }
}

async function carry(url: string, { run, token }: ClaimedRun): Promise<void> {
  const calls = createRunRegistry({ url, token }, run.id, { patience });
  const timed = async (into: number[], call: () => Promise<unknown>): Promise<void> => {
    const sentMs = performance.now();
    await counted(call);
    into.push(performance.now() - sentMs);
  };
  const startMs = performance.now();
  const holdMs = (0.5 + Math.random()) * HOLD_MS;
  for (let second = 1; performance.now() - startMs < holdMs && !over.signal.aborted; second += 1) {
    const progress = (second * RENEW_EVERY_MS) / (2 * holdMs);
    const points = [{ step: second, metrics: { loss: 1 / second, learningRate: 0.1 } }];
    await Promise.all([
      timed(renewals, () => calls.renew({ busySeconds: second })),
      timed(reports, () => calls.report({ sequence: second, progress: Math.min(progress, 1), points })),
    ]);
    await untilOver(Math.max(0, startMs + second * RENEW_EVERY_MS - performance.now()));
  }
  await counted(() => calls.release({ message: 'The simulated worker gives the run back.' }));
}

async function counted<Result>(call: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await call();
  } catch (error) {
    // A claim that waits at the end of the load.
    if (over.signal.aborted) return undefined;
    note(error);
    return undefined;
  }
}

async function untilOver(ms: number): Promise<void> {
  await pause(ms, undefined, { signal: over.signal }).catch(() => undefined);
}
