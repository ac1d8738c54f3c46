/**
 * A real Slurm on this machine: one controller and two nodes, each node in a network, host name and folder of its own.
 * Debian's slurmd takes its identity from the first two.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { childEnvironment } from '../src/env.ts';

const execute = promisify(execFile);

export const NODES = ['node1', 'node2'] as const;
export type NodeName = (typeof NODES)[number];

/** Where the nodes see this machine. Private, and unlikely to be in use. */
export const CONTROLLER_ADDRESS = '10.231.77.1';
const BRIDGE = 'pfbr0';
const NEEDED = ['slurmctld', 'slurmd', 'munged', 'sbatch', 'squeue', 'scancel', 'ip', 'unshare', 'mount'];
/** The place that Slurm's programs expect. */
const MUNGE_SOCKET = '/run/munge/munge.socket.2';
/** Slurm calls a node lost after this; longer than the cut of a network that a run must survive. */
const SLURMD_TIMEOUT_SECONDS = 60;

export interface SlurmCluster {
  /** For programs that call Slurm. */
  readonly env: Readonly<Record<string, string>>;
  run(program: string, ...args: readonly string[]): Promise<string>;
  killController(): Promise<void>;
  startController(): Promise<void>;
  /** As if the node lost its power: its daemon and all that runs on it are gone at once. */
  killNode(node: NodeName): Promise<void>;
  startNode(node: NodeName): Promise<void>;
  setNetwork(node: NodeName, state: 'up' | 'down'): Promise<void>;
  /** Processes on the nodes, apart from the daemons. */
  processesOnNodes(): Promise<number[]>;
  stop(): Promise<void>;
}

/** @returns what this machine lacks, as one sentence; undefined if it lacks nothing. */
export async function missingHere(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'Network namespaces need root.';
  const missing: string[] = [];
  for (const program of NEEDED)
    await execute('sh', ['-c', `PATH="$PATH:/usr/sbin:/sbin" command -v ${program}`]).catch(() =>
      missing.push(program),
    );
  return missing.length === 0
    ? undefined
    : `Missing: ${missing.join(', ')} (Debian: apt-get install slurm-wlm munge iproute2).`;
}

export interface NodeFolders {
  /** Empty on the nodes. */
  readonly hidden: string;
  /** On each node another folder, which stays when the node is killed. */
  readonly own: string;
}

export async function startSlurm(folder: string, { hidden, own }: NodeFolders): Promise<SlurmCluster> {
  const daemons = new Map<string, ChildProcess>();
  const conf = path.join(folder, 'slurm.conf');
  const inherited = childEnvironment({ SLURM_CONF: conf });
  const env = { ...inherited, PATH: `${inherited['PATH']}:/usr/sbin:/sbin` };
  const run = async (program: string, ...args: readonly string[]): Promise<string> =>
    (await execute(program, args, { env, maxBuffer: 16_000_000 })).stdout;

  const isAnswering = (program: string, ...args: readonly string[]): Promise<boolean> =>
    run(program, ...args).then(
      () => true,
      () => false,
    );
  const start = async (name: string, program: string, ...args: readonly string[]): Promise<void> => {
    const log = path.join(folder, `${name}.log`);
    const command = `exec ${program} "$@" >>"${log}" 2>&1`;
    daemons.set(name, spawn('sh', ['-c', command, name, ...args], { env, stdio: 'ignore', detached: true }));
    await setTimeout(500);
  };
  const kill = async (name: string): Promise<void> => {
    const child = daemons.get(name);
    daemons.delete(name);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  };
  const pidsOn = async (node: NodeName): Promise<number[]> =>
    (await run('ip', 'netns', 'pids', `pf-${node}`)).split('\n').flatMap((line) => (line === '' ? [] : [Number(line)]));

  const cluster: SlurmCluster = {
    env,
    run,
    killController: () => kill('slurmctld'),
    startController: () =>
      start('slurmctld', 'unshare', '-u', 'sh', '-c', `hostname controller && exec slurmctld -D -f "${conf}"`),
    killNode: async (node) => {
      for (const pid of await pidsOn(node)) process.kill(pid, 'SIGKILL');
      await kill(node);
    },
    startNode: (node) =>
      start(
        node,
        'ip',
        ...['netns', 'exec', `pf-${node}`, 'unshare', '--uts', '--mount', '--propagation', 'private', 'sh', '-c'],
        [
          `hostname ${node}`,
          `mount -t tmpfs none "${hidden}"`,
          `mount --bind "${folder}/disk-${node}" "${own}"`,
          `exec slurmd -D -N ${node} -f "${conf}"`,
        ].join(' && '),
      ),
    setNetwork: async (node, state) => {
      await run('ip', 'link', 'set', `pf-${node}`, state);
    },
    processesOnNodes: async () => {
      const pids = (await Promise.all(NODES.map(pidsOn))).flat();
      const names = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')));
      return pids.filter((_pid, index) => !['', 'slurmd'].includes((names[index] ?? '').trim()));
    },
    stop: async () => {
      for (const node of NODES) await cluster.killNode(node).catch(() => undefined);
      for (const name of [...daemons.keys()]) await kill(name);
      for (const node of NODES) await run('ip', 'netns', 'del', `pf-${node}`).catch(() => undefined);
      await run('ip', 'link', 'del', BRIDGE).catch(() => undefined);
    },
  };

  try {
    await run('ip', 'link', 'add', BRIDGE, 'type', 'bridge');
    await run('ip', 'addr', 'add', `${CONTROLLER_ADDRESS}/24`, 'dev', BRIDGE);
    await run('ip', 'link', 'set', BRIDGE, 'up');
    for (const [index, node] of NODES.entries()) {
      await run('ip', 'netns', 'add', `pf-${node}`);
      await run('ip', 'link', 'add', `pf-${node}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `pf-${node}`);
      await run('ip', 'link', 'set', `pf-${node}`, 'master', BRIDGE, 'up');
      await run('ip', '-n', `pf-${node}`, 'addr', 'add', `${addressOf(index)}/24`, 'dev', 'eth0');
      for (const device of ['eth0', 'lo']) await run('ip', '-n', `pf-${node}`, 'link', 'set', device, 'up');
    }
    for (const each of [
      path.join(folder, 'state'),
      hidden,
      own,
      ...NODES.map((node) => path.join(folder, `disk-${node}`)),
    ])
      await mkdir(each, { recursive: true });
    await writeFile(conf, configuration(folder));
    // Job steps are found by their processes: not every machine has a cgroup file system.
    await writeFile(path.join(folder, 'cgroup.conf'), 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n');
    // A machine with a Slurm of its own has a munged, which does as well.
    if (!(await isAnswering('munge', '--no-input'))) {
      await mkdir(path.dirname(MUNGE_SOCKET), { recursive: true });
      const key = path.join(folder, 'munge.key');
      await writeFile(key, crypto.getRandomValues(new Uint8Array(256)), { mode: 0o400 });
      const files = ['pid-file', 'log-file', 'seed-file'].map(
        (name) => `--${name}=${path.join(folder, `munge.${name}`)}`,
      );
      await start(
        'munged',
        'munged',
        '--foreground',
        '--force',
        `--key-file=${key}`,
        `--socket=${MUNGE_SOCKET}`,
        ...files,
      );
    }
    await cluster.startController();
    for (const node of NODES) await cluster.startNode(node);
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

function addressOf(index: number): string {
  return CONTROLLER_ADDRESS.replace(/1$/, String(11 + index));
}

/** One processor on each node, so that two trainings run at the same time and the others wait. */
function configuration(folder: string): string {
  return `ClusterName=paraffin
SlurmctldHost=controller(${CONTROLLER_ADDRESS})
SlurmctldPort=16917
SlurmdPort=16918
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool-%n
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdTimeout=${SLURMD_TIMEOUT_SECONDS}
SlurmdParameters=config_overrides
KillWait=30
MinJobAge=300
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SchedulerParameters=sched_interval=5,bf_interval=5
${NODES.map((node, index) => `NodeName=${node} NodeHostname=${node} NodeAddr=${addressOf(index)} CPUs=1 State=UNKNOWN`).join('\n')}
PartitionName=gpu Nodes=${NODES.join(',')} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes=${NODES.join(',')} MaxTime=60 PriorityTier=10 PreemptMode=OFF
`;
}
