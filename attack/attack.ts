/** The interface of one kind of attack, and the tools that it is given. */
import type { AttackedServer } from './attacked-server.ts';

/** Numbers in [0, 1) from the run's seed: the same seed repeats the same attack. */
export type Random = () => number;

export interface Attack {
  /** The name for `--only`: words with hyphens. */
  readonly name: string;
  /** What is tried, in a few words, for the table. */
  readonly about: string;
  /** Its share of the total time, relative to the sum of all shares. */
  readonly share: number;
  /** A finding is something that should not have happened; an exception is a fault of the attack itself. */
  run(context: AttackContext): Promise<AttackOutcome>;
}

export interface AttackOutcome {
  /** The number of things that were tried. */
  readonly tryCount: number;
  /** What should not have happened, one sentence each with its cause; empty if everything held. */
  readonly findings: readonly string[];
  /** What could not be tried on this machine. */
  readonly remarks?: readonly string[];
}

export interface AttackContext {
  /** True for the short form that runs with the tests, a few seconds long. */
  readonly quick: boolean;
  readonly random: Random;
  /** False once this attack's share of the time is over: attacks that continue at random or in rounds end then. */
  isTimeLeft(): boolean;
  /** Aborted by Ctrl-C and when the total time is over. */
  readonly signal: AbortSignal;
  /** A server shared by all attacks that leave it unchanged. It is restarted after an attack that ended it. */
  server(): Promise<AttackedServer>;
  /** A separate server for this attack, on a new data directory unless one is given; stopped with the attack. */
  startServer(options?: ServerOptions): Promise<AttackedServer>;
  /** An empty folder, deleted with the attack. */
  folder(): Promise<string>;
}

export interface ServerOptions {
  readonly dataDir?: string;
  /** PARAFFIN_… environment variables. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A random element. */
export function oneOf<Item>(items: readonly [Item, ...Item[]], random: Random): Item {
  return items[Math.floor(random() * items.length)] ?? items[0];
}
