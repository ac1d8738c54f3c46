/** Placing runs on the clusters of launchers. A placement never changes its run: only workers and people do. */
import { parseInput } from '../../input.ts';
import type { Transact } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { PlacementRecord } from './placements.records.ts';
import {
  mayBecome,
  nameOfPlacement,
  nextPlacementAt,
  placementWorkSchema,
  placeRunsSchema,
  reportPlacementsSchema,
} from './placements.rules.ts';
import type { PlacementStore } from './placements.store.ts';

export interface PlacementWork {
  /** Placements of this launcher that have not ended. */
  readonly open: readonly PlacementRecord[];
  /** Ids of queued runs without a job, in the order of the queue; those whose pause is not over are left out. */
  readonly waitingRunIds: readonly string[];
}

export interface PlacementService {
  /** What a launcher has to look after. @throws DomainError BAD_INPUT. */
  work(viewer: Viewer, input: unknown): Promise<PlacementWork>;
  /** Plans a job for each of these runs that still waits for one. @returns the new placements. */
  place(viewer: Viewer, input: unknown): Promise<PlacementRecord[]>;
  /**
   * Stores what a launcher learned of its jobs. A report that comes too late changes nothing: see `mayBecome`.
   * @returns the placements that were changed.
   */
  report(viewer: Viewer, input: unknown): Promise<PlacementRecord[]>;
}

export interface PlacementServiceParts {
  readonly store: PlacementStore;
  readonly transact: Transact;
  readonly now?: () => Date;
}

/** Read from the head of the queue: more than pause at the same time, so that paused runs do not hold up the others. */
const WAITING_RUNS_MAX = 1_000;

export function createPlacementService(parts: PlacementServiceParts): PlacementService {
  const { store, transact, now = () => new Date() } = parts;
  return {
    work: async (viewer, raw) => {
      authorise(viewer, 'OPERATOR');
      const { launcher, kinds, limit, labels } = parseInput(placementWorkSchema, raw);
      const waiting = limit === 0 ? [] : await store.waitingRuns(kinds, labels ?? [], WAITING_RUNS_MAX);
      const earlier = Map.groupBy(await store.ofRuns(waiting.map(({ id }) => id)), ({ runId }) => runId);
      return {
        open: await store.openOf(launcher),
        waitingRunIds: waiting
          .filter(({ id, attempt }) => {
            const at = nextPlacementAt(earlier.get(id) ?? [], attempt);
            return at === undefined || at <= now();
          })
          .slice(0, limit)
          .map(({ id }) => id),
      };
    },
    place: async (viewer, raw) => {
      authorise(viewer, 'OPERATOR');
      const { launcher, runIds } = parseInput(placeRunsSchema, raw);
      const ids = await transact(async (tx) => {
        const created: string[] = [];
        // In one order, so that two launchers that place the same runs do not wait for each other.
        for (const id of runIds.toSorted()) {
          const run = await store.lockWaitingRun(tx, id);
          if (run === undefined) continue;
          const number = ((await store.ofRuns([id], tx))[0]?.number ?? 0) + 1;
          created.push(
            await store.create(tx, {
              runId: id,
              attempt: run.attempt + 1,
              number,
              launcher,
              name: nameOfPlacement(id, number),
            }),
          );
        }
        return created;
      });
      return store.findMany(ids);
    },
    report: async (viewer, raw) => {
      authorise(viewer, 'OPERATOR');
      const { launcher, reports } = parseInput(reportPlacementsSchema, raw);
      const ids = reports.map(({ id }) => id);
      const changed = await transact(async (tx) => {
        const found = new Map((await store.lockOf(tx, launcher, ids)).map((placement) => [placement.id, placement]));
        const accepted = reports.filter(({ id, state }) => {
          const before = found.get(id);
          return before !== undefined && mayBecome(before.state, state);
        });
        for (const report of accepted) {
          const before = found.get(report.id);
          if (before !== undefined) await store.update(tx, before, report);
        }
        return accepted.map(({ id }) => id);
      });
      return store.findMany(changed);
    },
  };
}
