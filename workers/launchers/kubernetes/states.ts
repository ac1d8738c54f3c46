/**
 * What a Job and its pods say of themselves, in the words that `kubectl` shows. Pure.
 *
 * None of it is proof: PodGC and the taint manager delete the pods of nodes that nobody reaches, whose processes may go
 * on. The lease of the run decides.
 */
import type { JobSight } from '../launcher.ts';
import type { ClusterJob, ClusterPod } from './api.ts';

const REASON_CHARACTERS_MAX = 400;

/** @param pods those of the Job; it has one, except while a control plane corrects itself. */
export function sightOf(job: ClusterJob, pods: readonly ClusterPod[]): JobSight {
  const { uid } = job.metadata;
  const see = (phase: JobSight['phase'], schedulerState: string, reason: string | null = null): JobSight => ({
    externalId: uid,
    phase,
    schedulerState,
    reason: reason === null || reason === '' ? null : reason.slice(0, REASON_CHARACTERS_MAX),
    position: null,
  });
  const pod = pods.toSorted(byLiveliness)[0];
  if (conditionOf(job.status?.conditions, 'Complete') !== undefined) return see('ENDED', 'Complete');
  const failed = conditionOf(job.status?.conditions, 'Failed');
  if (failed !== undefined) {
    const end = pod === undefined ? undefined : endOf(pod);
    return end === undefined
      ? see('ENDED', failed.reason ?? 'Failed', failed.message)
      : see('ENDED', end.state, end.reason);
  }
  if (job.metadata.deletionTimestamp !== undefined) return see('RUNNING', 'Deleting');
  if (job.spec.suspend === true) return see('WAITING', 'Suspended', 'not yet admitted by its queue');
  // An admission rule or a quota that refuses the pod is told in the events of the Job alone.
  if (pod === undefined)
    return see('WAITING', 'Pending', `no pod yet; "kubectl describe job ${job.metadata.name}" says why`);
  switch (pod.status?.phase) {
    case undefined:
    case 'Pending':
      return see('WAITING', ...waitOf(pod));
    case 'Running':
      return pod.metadata.deletionTimestamp === undefined
        ? see('RUNNING', 'Running', pod.spec.nodeName ?? null)
        : see('RUNNING', 'Terminating', pod.spec.nodeName ?? null);
    // Its end is not yet that of the Job; "Unknown" is a node that does not answer.
    default:
      return see('RUNNING', pod.status?.phase ?? 'Unknown', pod.spec.nodeName ?? null);
  }
}

/** Why a pod does not run yet: nobody has a place for it, or its container cannot start. */
function waitOf({ status }: ClusterPod): [state: string, reason: string | null] {
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False') return [scheduled.reason ?? 'Unscheduled', scheduled.message ?? null];
  const waiting = status?.containerStatuses?.map(({ state }) => state?.waiting).find((each) => each !== undefined);
  return [waiting?.reason ?? 'Pending', waiting?.message ?? null];
}

/** How a pod ended, where it says more than its Job does. */
function endOf({ status, spec }: ClusterPod): { readonly state: string; readonly reason: string | null } | undefined {
  const where = spec.nodeName === undefined ? null : `on ${spec.nodeName}`;
  const disruption = conditionOf(status?.conditions, 'DisruptionTarget');
  if (disruption?.reason !== undefined) return { state: disruption.reason, reason: disruption.message ?? where };
  if (status?.reason !== undefined) return { state: status.reason, reason: status.message ?? where };
  const terminated = status?.containerStatuses
    ?.map(({ state }) => state?.terminated)
    .find((each) => each !== undefined);
  if (terminated === undefined) return undefined;
  if (terminated.reason === 'OOMKilled') return { state: 'OOMKilled', reason: where };
  const code = `exit code ${terminated.exitCode}`;
  return { state: 'Failed', reason: where === null ? code : `${code} ${where}` };
}

function conditionOf<T extends { readonly type: string; readonly status: string }>(
  conditions: readonly T[] | undefined,
  type: string,
): T | undefined {
  return conditions?.find((condition) => condition.type === type && condition.status === 'True');
}

const PHASES = ['Running', 'Pending', 'Unknown', 'Succeeded', 'Failed'];

function byLiveliness(one: ClusterPod, other: ClusterPod): number {
  return PHASES.indexOf(one.status?.phase ?? 'Pending') - PHASES.indexOf(other.status?.phase ?? 'Pending');
}
