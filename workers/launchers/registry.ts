/** The registry as launchers see it: four operations of its API over HTTP, with a key of the role OPERATOR. */
import { z } from 'zod';
import { PLACEMENT_STATES, PLACEMENT_USES } from '../../src/protocol/placements.ts';
import { runRequirementsSchema } from '../../src/protocol/requirements.ts';
import type { Placement, Report } from './reconcile.ts';

export interface PlacementWork {
  readonly open: readonly Placement[];
  readonly waitingRunIds: readonly string[];
}

export interface PlacementRegistry {
  /** The actions to which the key is limited; null: all that its role may take. */
  actions(): Promise<readonly string[] | null>;
  /** @param limit at most this many waiting runs. */
  work(limit: number): Promise<PlacementWork>;
  /** Plans jobs for these runs. @returns the placements that were planned. */
  place(runIds: readonly string[]): Promise<readonly Placement[]>;
  /** @returns the placements that the reports changed. */
  report(reports: readonly Report[]): Promise<readonly Placement[]>;
}

export interface PlacementRegistryOptions {
  readonly url: string;
  readonly key: string;
  readonly launcher: string;
  readonly kinds: readonly string[];
  /** Labels of the workers that the launcher starts. */
  readonly labels: readonly string[];
}

/** The registry did not do what it was asked: it could not be reached, or it refused. */
export class RegistryError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'RegistryError';
  }
}

const FIELDS =
  'id runId name externalId state schedulerState reason position use run { maxDurationSeconds busySeconds requirements { device bfloat16 memoryMiB gpuMemoryMiB labels } }';
const ACTIONS = `query Viewer { viewer { actions } }`;
const WORK = `query PlacementWork($input: PlacementWorkInput!) { placementWork(input: $input) { waitingRunIds open { ${FIELDS} } } }`;
const PLACE = `mutation PlaceRuns($input: PlaceRunsInput!) { placeRuns(input: $input) { placements { ${FIELDS} } userErrors { code message } } }`;
const REPORT = `mutation ReportPlacements($input: ReportPlacementsInput!) { reportPlacements(input: $input) { placements { ${FIELDS} } userErrors { code message } } }`;

const TIMEOUT_MS = 30_000;

const placementSchema = z
  .object({
    id: z.string(),
    runId: z.string(),
    name: z.string(),
    externalId: z.string().nullable(),
    state: z.enum(PLACEMENT_STATES),
    schedulerState: z.string().nullable(),
    reason: z.string().nullable(),
    position: z.number().nullable(),
    use: z.enum(PLACEMENT_USES),
    run: z.object({
      maxDurationSeconds: z.number().nullable(),
      busySeconds: z.number(),
      requirements: runRequirementsSchema,
    }),
  })
  .transform(({ run: { requirements, maxDurationSeconds, busySeconds }, ...placement }) => ({
    ...placement,
    requirements,
    secondsLeft: maxDurationSeconds === null ? null : Math.max(0, Math.ceil(maxDurationSeconds - busySeconds)),
  }));
const payloadSchema = z.object({
  placements: z.array(placementSchema).nullable(),
  userErrors: z.array(z.object({ code: z.string(), message: z.string() })),
});
const answerSchema = z.object({
  data: z.unknown(),
  errors: z.array(z.object({ message: z.string() })).optional(),
});

export function createPlacementRegistry({
  url,
  key,
  launcher,
  kinds,
  labels,
}: PlacementRegistryOptions): PlacementRegistry {
  const ask = async (query: string, input: object = {}): Promise<unknown> => {
    let response: Response;
    try {
      response = await fetch(`${url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
        body: JSON.stringify({ query, variables: { input: { launcher, ...input } } }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch (error) {
      throw new RegistryError(`The registry at ${url} cannot be reached.`, { cause: error });
    }
    const text = await response.text();
    const answer = answerSchema.safeParse(parseJson(text)).data;
    const refusal = answer?.errors?.[0]?.message;
    if (answer === undefined || refusal !== undefined)
      throw new RegistryError(`The registry at ${url} answered ${response.status}: ${refusal ?? text.slice(0, 200)}`);
    return answer.data;
  };
  const change = async (query: string, field: string, input: object): Promise<readonly Placement[]> => {
    const payload = z.record(z.string(), payloadSchema).parse(await ask(query, input))[field];
    const fault = payload?.userErrors[0];
    if (payload?.placements == null) throw new RegistryError(`The registry refused: ${fault?.message ?? 'no reason'}`);
    return payload.placements;
  };
  return {
    actions: async () =>
      z.object({ viewer: z.object({ actions: z.array(z.string()).nullable() }) }).parse(await ask(ACTIONS)).viewer
        .actions,
    work: async (limit) => {
      const data = await ask(WORK, { kinds, limit, labels });
      return z
        .object({ placementWork: z.object({ waitingRunIds: z.array(z.string()), open: z.array(placementSchema) }) })
        .parse(data).placementWork;
    },
    place: (runIds) => change(PLACE, 'placeRuns', { runIds }),
    report: (reports) => change(REPORT, 'reportPlacements', { reports }),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
