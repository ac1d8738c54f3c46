/** One kind of attack, and what it is given to attack with. */
import type { AttackedServer } from './attacked-server.ts';

/** Numbers in [0, 1) from the run's seed: the same attack again does the same things. */
export type Dice = () => number;

export interface Attack {
  /** As `--only` names it: words with hyphens. */
  readonly name: string;
  /** What is tried, in a few words, for the table. */
  readonly about: string;
  /** Its share of the time of the full form, in parts of the sum of all shares. */
  readonly share: number;
  /** A finding is something that should not have happened; throwing is a fault of the attack itself. */
  run(scene: Scene): Promise<AttackOutcome>;
}

export interface AttackOutcome {
  /** How many things were tried. */
  readonly tryCount: number;
  /** What should not have happened, one sentence each with its cause; empty where everything held. */
  readonly findings: readonly string[];
  /** What this machine did not allow to try. */
  readonly remarks?: readonly string[];
}

export interface Scene {
  /** True: the form that runs with the tests, a few seconds long. */
  readonly quick: boolean;
  readonly dice: Dice;
  /** False once this attack's share of the time is over: whatever continues at random or in rounds ends then. */
  isTimeLeft(): boolean;
  /** Aborted by Ctrl-C and when the whole time is over. */
  readonly signal: AbortSignal;
  /** The one server for every attack that leaves it as it was. Started again where an attack has ended it. */
  server(): Promise<AttackedServer>;
  /** A server of this attack's own, on a new data directory unless one is given; stopped with the attack. */
  startServer(options?: ServerOptions): Promise<AttackedServer>;
  /** An empty folder, deleted with the attack. */
  folder(): Promise<string>;
}

export interface ServerOptions {
  readonly dataDir?: string;
  /** PARAFFIN_… variables. */
  readonly env?: Readonly<Record<string, string>>;
}

/** One of them. */
export function oneOf<Item>(items: readonly [Item, ...Item[]], dice: Dice): Item {
  return items[Math.floor(dice() * items.length)] ?? items[0];
}
