/** API types and fields of placements: what people see of a run's jobs, and what launchers call. */
import path from 'node:path';
import { arg, enumType, extendType, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { PLACEMENT_STATES, PLACEMENT_USES } from '../../protocol/placements.ts';
import { sentenceOf, useOf } from './placements.rules.ts';

const records = path.join(import.meta.dirname, 'placements.records.ts');

export const PlacementState = enumType({
  name: 'PlacementState',
  description:
    'PLANNED: to be submitted. SUBMITTING: the scheduler was asked, and its answer is not known. UNKNOWN: the scheduler does not know the job, which several looks must confirm.',
  members: [...PLACEMENT_STATES],
});

export const PlacementUse = enumType({
  name: 'PlacementUse',
  description:
    'What the registry itself knows. NEEDED: the run waits for the worker of the job. CARRIED: a worker of the job holds the run. OVER: neither, so the job is of no more use.',
  members: [...PLACEMENT_USES],
});

export const Placement = objectType({
  name: 'Placement',
  sourceType: { module: records, export: 'PlacementRecord' },
  description:
    'A job of Slurm or Kubernetes that starts a worker for one attempt of a run. What the scheduler says of the job is shown, and never decides what becomes of the run.',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.id('runId');
    t.nonNull.int('attempt', { description: 'The attempt that its worker is to carry.' });
    t.nonNull.int('number', { description: '1 for the first placement of the run.' });
    t.nonNull.string('launcher');
    t.nonNull.string('name', { description: 'Name of the job, by which it is found if its id was lost.' });
    t.string('externalId', { description: 'Id of the job at its scheduler.' });
    t.nonNull.field('state', { type: 'PlacementState' });
    t.string('schedulerState', { description: 'The state in the words of the scheduler, such as NODE_FAIL.' });
    t.string('reason');
    t.int('position', { description: 'Place among the waiting jobs of its partition, from 1.' });
    t.nonNull.string('sentence', {
      description: 'One line, such as "waiting in slurm: Priority, position 14".',
      resolve: (placement) => sentenceOf(placement),
    });
    t.nonNull.field('run', {
      type: 'Run',
      resolve: (placement, _args, ctx) => ctx.loaders.runs.existing(placement.runId),
    });
    t.nonNull.field('use', { type: 'PlacementUse', resolve: (placement) => useOf(placement) });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('submittedAt', { type: 'DateTime' });
    t.field('startedAt', { type: 'DateTime' });
    t.field('endedAt', { type: 'DateTime' });
  },
});

export const RunPlacements = extendType({
  type: 'Run',
  definition(t) {
    t.nonNull.list.nonNull.field('placements', {
      type: 'Placement',
      description: 'Jobs of Slurm or Kubernetes that were asked to carry the run, the newest first.',
      resolve: async (run, _args, ctx) => [...(await ctx.loaders.placements.byRun.load(run.id))],
    });
  },
});

export const PlacementWorkInput = inputObjectType({
  name: 'PlacementWorkInput',
  definition(t) {
    t.nonNull.string('launcher', { description: 'Name of the launcher, such as slurm.' });
    t.nonNull.list.nonNull.field('kinds', { type: 'RunKind', description: 'Kinds of runs that it places.' });
    t.nonNull.int('limit', { description: 'At most this many waiting runs.' });
    t.list.nonNull.string('labels', {
      description: 'Labels of the workers that it starts; runs that require others are left out. Default: none.',
    });
  },
});

export const PlacementWork = objectType({
  name: 'PlacementWork',
  definition(t) {
    t.nonNull.list.nonNull.field('open', {
      type: 'Placement',
      description: 'Placements of this launcher that have not ended.',
    });
    t.nonNull.list.nonNull.id('waitingRunIds', {
      description: 'Queued runs that no job was asked to carry, in the order of the queue.',
    });
  },
});

export const PlacementsPayload = objectType({
  name: 'PlacementsPayload',
  definition(t) {
    t.list.nonNull.field('placements', { type: 'Placement' });
    t.nonNull.list.nonNull.field('userErrors', { type: 'UserError' });
  },
});

export const PlaceRunsInput = inputObjectType({
  name: 'PlaceRunsInput',
  definition(t) {
    t.nonNull.string('launcher');
    t.nonNull.list.nonNull.id('runIds');
  },
});

export const PlacementReportInput = inputObjectType({
  name: 'PlacementReportInput',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.field('state', { type: 'PlacementState' });
    t.string('externalId');
    t.string('schedulerState');
    t.string('reason');
    t.int('position');
  },
});

export const ReportPlacementsInput = inputObjectType({
  name: 'ReportPlacementsInput',
  definition(t) {
    t.nonNull.string('launcher');
    t.nonNull.list.nonNull.field('reports', { type: 'PlacementReportInput' });
  },
});

export const PlacementQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('placementWork', {
      type: 'PlacementWork',
      description: 'For launchers: what they have to look after.',
      args: { input: nonNull(arg({ type: 'PlacementWorkInput' })) },
      resolve: async (_root, { input }, ctx) => {
        const { open, waitingRunIds } = await ctx.services.placements.work(ctx.viewer, input);
        return { open: [...open], waitingRunIds: [...waitingRunIds] };
      },
    });
  },
});

export const PlacementMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('placeRuns', {
      type: 'PlacementsPayload',
      description:
        'For launchers: plans a job for each of these runs that still waits for one, before the scheduler is asked. A run has at most one job that has not ended.',
      args: { input: nonNull(arg({ type: 'PlaceRunsInput' })) },
      resolve: (_root, { input }, ctx) => settle('placements', () => ctx.services.placements.place(ctx.viewer, input)),
    });
    t.nonNull.field('reportPlacements', {
      type: 'PlacementsPayload',
      description:
        'For launchers: what they learned of their jobs. Only a PLANNED placement becomes SUBMITTING, and an ENDED one stays as it is; the answer has the placements that were changed.',
      args: { input: nonNull(arg({ type: 'ReportPlacementsInput' })) },
      resolve: (_root, { input }, ctx) => settle('placements', () => ctx.services.placements.report(ctx.viewer, input)),
    });
  },
});
