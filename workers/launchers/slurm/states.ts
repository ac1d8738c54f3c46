/**
 * The states of jobs, as squeue and sacct print them (slurm.schedmd.com/squeue.html, "JOB STATE CODES").
 */
import type { JobSight } from '../launcher.ts';

const PHASES: Readonly<Record<string, JobSight['phase']>> = {
  PENDING: 'WAITING',
  CONFIGURING: 'WAITING',
  REQUEUED: 'WAITING',
  REQUEUE_FED: 'WAITING',
  REQUEUE_HOLD: 'WAITING',
  RESV_DEL_HOLD: 'WAITING',
  SPECIAL_EXIT: 'WAITING',
  RUNNING: 'RUNNING',
  COMPLETING: 'RUNNING',
  RESIZING: 'RUNNING',
  SIGNALING: 'RUNNING',
  STAGE_OUT: 'RUNNING',
  STOPPED: 'RUNNING',
  SUSPENDED: 'RUNNING',
  BOOT_FAIL: 'ENDED',
  CANCELLED: 'ENDED',
  COMPLETED: 'ENDED',
  DEADLINE: 'ENDED',
  FAILED: 'ENDED',
  LAUNCH_FAILED: 'ENDED',
  NODE_FAIL: 'ENDED',
  OUT_OF_MEMORY: 'ENDED',
  PREEMPTED: 'ENDED',
  REVOKED: 'ENDED',
  TIMEOUT: 'ENDED',
};

/**
 * The first word of a state: sacct prints `CANCELLED by 1000`, and with `+` a word that was cut.
 * @returns undefined for a state that this table does not know: a newer Slurm may have it.
 */
export function phaseOf(state: string): { readonly phase: JobSight['phase']; readonly name: string } | undefined {
  const name = state.split(/[ +]/, 1).join('');
  const phase = PHASES[name];
  return phase === undefined ? undefined : { phase, name };
}
