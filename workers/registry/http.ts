/** The registry over HTTP (docs/worker-protocol.md): requests, and the errors that they end with. */
import { z } from 'zod';
import { DomainError, ERROR_CODES, type ErrorCode } from '../../src/errors.ts';
import { partRegistryOver, type PartRegistry } from '../../src/protocol/part-calls.ts';
import { registryOver, type RunRegistry } from '../../src/protocol/run-calls.ts';
import type { HeldLease, PartLease } from '../../src/protocol/runs.ts';
import {
  claimAnswerSchema,
  claimedRunSchema,
  heldAnswerSchema,
  runQuestionAnswerSchema,
  type Claim,
  type ClaimedPart,
  type ClaimedRun,
  type RunQuestionAnswer,
} from '../../src/protocol/worker-calls.ts';
import { untilRegistryAnswers, type Patience } from './patience.ts';

/** A call that takes longer than this is repeated: the connection may have died without a sign. */
const CALL_TIMEOUT_MS = 60_000;

export interface Door {
  /** The registry's URL, without a final slash. */
  readonly url: string;
  /** A key that may WORK, or the token of a claimed run. */
  readonly token: string;
}

const failureSchema = z.object({
  code: z.string(),
  message: z.string(),
  field: z.string().optional(),
  hint: z.string().optional(),
});

/**
 * One request; the response has a status of success, or is a redirect that the caller wants to see.
 * @throws DomainError of the registry; REGISTRY_UNREACHABLE if it did not answer, or the signal was aborted before.
 */
export async function request(
  { url, token }: Door,
  path: string,
  init: RequestInit & { readonly duplex?: 'half' } = {},
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`${url}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${token}`, ...Object.fromEntries(new Headers(init.headers)) },
    });
  } catch (error) {
    throw unreachable(url, error);
  }
  if (response.ok || (init.redirect === 'manual' && response.status === 302)) return response;
  throw failureOfAnswer(url, response.status, await response.text().catch(() => ''));
}

export function unreachable(url: string, cause: unknown): DomainError {
  return new DomainError({
    code: 'REGISTRY_UNREACHABLE',
    message: 'The registry does not answer.',
    hint: `Check that ${url} can be reached from this machine.`,
    retryable: true,
    cause,
  });
}

function failureOfAnswer(url: string, status: number, text: string): Error {
  const { data } = failureSchema.safeParse(jsonOf(text));
  if (data === undefined) return failureOfStatus(url, status);
  const { code: name, ...facts } = data;
  const code = ERROR_CODES.find((known): known is ErrorCode => known === name);
  return new DomainError({
    code: code ?? 'INTERNAL',
    message: facts.message,
    ...(facts.field === undefined ? {} : { field: facts.field }),
    ...(facts.hint === undefined ? {} : { hint: facts.hint }),
  });
}

/** An answer without a body, as to HEAD, or from a proxy in front of a registry that is away. */
function failureOfStatus(url: string, status: number): DomainError {
  if (status === 404) return new DomainError({ code: 'NOT_FOUND', message: 'The registry does not have this.' });
  if (status === 502 || status === 503 || status === 504) return unreachable(url, new Error(`HTTP status ${status}`));
  return new DomainError({
    code: 'INTERNAL',
    message: `The registry answered with HTTP status ${status}.`,
    hint: `Search the log of the server, and that of a proxy in front of ${url}.`,
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

async function call(
  door: Door,
  path: string,
  input: unknown,
  { signal, timeoutMs = CALL_TIMEOUT_MS }: CallOptions = {},
): Promise<unknown> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const response = await request(door, path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(input),
    signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
  });
  return response.json().catch((error: unknown) => {
    throw unreachable(door.url, error);
  });
}

/** The registry as a worker sees it. Every call is made once; the caller decides whether to repeat it. */
export interface WorkerRegistry {
  /** Undefined: no run waits. @param signal ends the waiting. */
  claim(claim: Omit<Claim, 'takesParts'>, signal: AbortSignal): Promise<ClaimedRun | undefined>;
  /** As `claim`; if no run waits, a part of one that another worker holds. */
  claimAny(claim: Omit<Claim, 'takesParts'>, signal: AbortSignal): Promise<ClaimedRun | ClaimedPart | undefined>;
  /** Undefined: the run does not exist. */
  run(runId: string): Promise<NonNullable<RunQuestionAnswer> | undefined>;
  held(leases: readonly HeldLease[]): Promise<readonly HeldLease[]>;
}

export function createWorkerRegistry(door: Door): WorkerRegistry {
  return {
    claim: async (claim, signal) =>
      claimedRunSchema.nullable().parse(await call(door, '/worker/claim', claim, { signal })) ?? undefined,
    claimAny: async (claim, signal) =>
      claimAnswerSchema.parse(await call(door, '/worker/claim', { ...claim, takesParts: true }, { signal })) ??
      undefined,
    run: async (runId) => runQuestionAnswerSchema.parse(await call(door, '/worker/run', { runId })) ?? undefined,
    held: async (leases) => heldAnswerSchema.parse(await call(door, '/worker/held', { leases })),
  };
}

export interface RunRegistryOptions {
  /** With it, calls wait while the registry is away; without it, each is made once. */
  readonly patience?: Patience;
  /** A call that takes longer fails with REGISTRY_UNREACHABLE. */
  readonly timeoutMs?: number;
}

/** The calls of a claimed run. */
export function createRunRegistry(door: Door, runId: string, options: RunRegistryOptions = {}): RunRegistry {
  return registryOver(callsBelow(door, `/worker/runs/${runId}`, options));
}

/** The calls of a claimed part of a run. */
export function createPartRegistry(
  door: Door,
  { runId, part }: Pick<PartLease, 'runId' | 'part'>,
  options: RunRegistryOptions = {},
): PartRegistry {
  return partRegistryOver(callsBelow(door, `/worker/runs/${runId}/parts/${part}`, options));
}

function callsBelow(door: Door, path: string, { patience, timeoutMs = CALL_TIMEOUT_MS }: RunRegistryOptions) {
  return (name: string, input: unknown): Promise<unknown> => {
    const once = (): Promise<unknown> => call(door, `${path}/${name}`, input, { timeoutMs });
    return patience === undefined ? once() : untilRegistryAnswers(once, patience);
  };
}
