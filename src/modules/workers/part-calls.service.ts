/** The registry's side of the calls of a process that has a part of a run (src/protocol/part-calls.ts). */
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import { PART_CALLS, type PartCallName } from '../../protocol/part-calls.ts';
import { LEASE_SECONDS, type PartLease } from '../../protocol/runs.ts';
import { leaseLost, type PartLedger } from '../runs/index.ts';
import { checked } from './run-calls.service.ts';
import { requireStored } from './stored.ts';

/** @throws DomainError BAD_INPUT, LEASE_LOST, and those that the call names. */
export type PartDesk = (lease: PartLease) => Readonly<Record<PartCallName, (input: unknown) => Promise<unknown>>>;

export interface PartDeskParts {
  readonly partLedger: PartLedger;
  readonly store: Pick<ArtifactStore, 'stat'>;
}

export function createPartDesk({ partLedger, store }: PartDeskParts): PartDesk {
  const held = async (work: Promise<boolean>): Promise<null> => {
    if (await work) return null;
    throw leaseLost();
  };
  return (lease) => ({
    renew: checked(PART_CALLS.renew, async () => {
      await held(partLedger.renew(lease));
      return { leaseSeconds: LEASE_SECONDS };
    }),
    settle: checked(PART_CALLS.settle, async ({ outcome }) => {
      const { facts, patches } = outcome;
      await requireStored(store, [facts, ...(patches === null ? [] : [patches])]);
      return held(partLedger.settle(lease, outcome));
    }),
    giveBack: checked(PART_CALLS.giveBack, ({ reason }) => held(partLedger.giveBack(lease, reason))),
  });
}
