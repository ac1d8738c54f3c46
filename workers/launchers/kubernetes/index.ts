/**
 * Places runs on Kubernetes as Jobs.
 *
 * A Job's name is never used twice, and the API server takes a name only once: a creation whose answer was lost can be
 * sent again. A Job never starts a second pod; evictions, deleted pods and lost nodes end it, or its worker's lease
 * lapses, and the registry decides.
 */
import { UnreachableCaseError } from '../../../src/errors.ts';
import { CHECK_JOB, type Launcher, type Look, type Submission } from '../launcher.ts';
import type { Answer, ClusterJob, Failure, KubernetesApi } from './api.ts';
import { jobOf, LAUNCHER_LABEL, RUN_LABEL, type JobTemplate } from './job.ts';
import { sightOf } from './states.ts';

export interface KubernetesParts {
  readonly api: KubernetesApi;
  readonly template: JobTemplate;
}

/** What is asked, and which failures mean that the right is there. */
type Question = readonly [what: string, ask: () => Promise<Answer<unknown>>, isFine?: (failure: Failure) => boolean];

export function createKubernetes({ api, template }: KubernetesParts): Launcher {
  const selector = `${LAUNCHER_LABEL}=${template.launcher}`;

  /** The name is taken: by a creation of ours whose answer was lost, or by something else. */
  const submissionOfTaken = async (name: string, runId: string): Promise<Submission> => {
    const answer = await api.readJob(name);
    // Its end came in between, or nothing is known.
    if (answer.kind !== 'DONE') return { kind: 'LOST', reason: answer.reason };
    const { uid, labels = {} } = answer.value.metadata;
    return labels[LAUNCHER_LABEL] === template.launcher && labels[RUN_LABEL] === runId
      ? { kind: 'SUBMITTED', externalId: uid }
      : {
          kind: 'REFUSED',
          reason: `a Job with the name ${name} exists in ${api.namespace}, and this launcher did not make it`,
        };
  };

  return {
    check: async () => {
      // Each asks for one right; nothing is created or deleted.
      const questions: readonly Question[] = [
        ['create the Job', () => api.createJob(jobOf(CHECK_JOB, template), { dryRun: true }), isTaken],
        ['list Jobs', () => api.listJobs(selector)],
        ['list pods', () => api.listPods(selector)],
        ['delete Jobs', () => api.deleteJob(CHECK_JOB.name, undefined, { dryRun: true }), isMissing],
      ];
      const obstacles: string[] = [];
      for (const [what, ask, isFine = () => false] of questions) {
        const answer = await ask();
        if (answer.kind === 'DONE' || isFine(answer)) continue;
        if (answer.kind === 'LOST') return [`The cluster cannot be asked: ${answer.reason}.`];
        obstacles.push(`The cluster would not ${what} in the namespace ${api.namespace}: ${answer.reason}.`);
      }
      return obstacles;
    },
    submit: async (job): Promise<Submission> => {
      const answer = await api.createJob(jobOf(job, template));
      switch (answer.kind) {
        case 'DONE':
          return { kind: 'SUBMITTED', externalId: answer.value.metadata.uid };
        case 'LOST':
          return answer;
        case 'REFUSED':
          if (isTaken(answer)) return submissionOfTaken(job.name, job.runId);
          // Two writers met, at a quota for example: the server asks to try again.
          return { kind: answer.status === 409 ? 'LOST' : 'REFUSED', reason: answer.reason };
        default:
          throw new UnreachableCaseError(answer);
      }
    },
    look: async (names): Promise<Look> => {
      const jobs = await api.listJobs(selector);
      if (jobs.kind !== 'DONE') return { kind: 'UNANSWERED', reason: jobs.reason };
      const pods = await api.listPods(selector);
      if (pods.kind !== 'DONE') return { kind: 'UNANSWERED', reason: pods.reason };
      const podsByJob = Map.groupBy(pods.value, ({ metadata }) => metadata.labels?.['job-name'] ?? '');
      const asked = new Set(names);
      return {
        kind: 'ANSWERED',
        jobs: new Map(
          jobs.value
            .filter(({ metadata }) => asked.has(metadata.name))
            .map((job: ClusterJob) => [job.metadata.name, [sightOf(job, podsByJob.get(job.metadata.name) ?? [])]]),
        ),
      };
    },
    cancel: async (name, externalId) => {
      // By both: a Job of this name that somebody made since is not ours to delete. A failure is tried again next time.
      await api.deleteJob(name, externalId);
    },
  };
}

function isTaken(failure: Failure): boolean {
  return failure.kind === 'REFUSED' && failure.code === 'AlreadyExists';
}

function isMissing(failure: Failure): boolean {
  return failure.kind === 'REFUSED' && failure.status === 404 && failure.code === 'NotFound';
}
