/** What the command line tells the launcher process. */
import { z } from 'zod';
import { runKindSchema } from './runs.ts';

const slurmOptionsSchema = z.object({
  kind: z.literal('SLURM'),
  /** Folder of settings and logs, seen by the nodes. */
  folder: z.string(),
  /** The `paraffin` command on the nodes, word by word. */
  paraffin: z.array(z.string()),
  /** File of the workers' settings on the nodes; undefined: written by the launcher. */
  settings: z.string().optional(),
  sshHost: z.string().optional(),
  sshControlPath: z.string().optional(),
});

const kubernetesOptionsSchema = z.object({
  kind: z.literal('KUBERNETES'),
  /** Image of the workers. */
  image: z.string(),
  /** Undefined: the one in which the launcher itself runs. */
  namespace: z.string().optional(),
  /** Address of the API server; undefined: that of the cluster in which the launcher itself runs. */
  apiUrl: z.string().optional(),
  /** Secret with the workers' settings; undefined: written by the launcher. */
  settings: z.string().optional(),
  /** A LocalQueue of Kueue. */
  queue: z.string().optional(),
  cpus: z.number(),
  memoryGib: z.number(),
  diskGib: z.number(),
  gpus: z.number(),
  /** Name of the resource that a device plugin offers. */
  gpuResource: z.string(),
  /** A job is ended after this time, in which waiting counts. */
  limitSeconds: z.number(),
});

export type SlurmOptions = z.infer<typeof slurmOptionsSchema>;
export type KubernetesOptions = z.infer<typeof kubernetesOptionsSchema>;

export const launcherOptionsSchema = z.object({
  /** In placements; two launchers of one registry have different names. */
  name: z.string(),
  url: z.string(),
  /** File with the key; undefined: PARAFFIN_API_KEY. */
  keyFile: z.string().optional(),
  kinds: z.array(runKindSchema),
  /** Jobs that may be open at the same time. */
  jobsMax: z.number(),
  everySeconds: z.number(),
  /** File of what a site adds to each job. */
  template: z.string().optional(),
  /** What a worker has to keep its state before its job is ended. */
  warnSeconds: z.number(),
  checkOnly: z.boolean(),
  cluster: z.discriminatedUnion('kind', [slurmOptionsSchema, kubernetesOptionsSchema]),
});

export type LauncherOptions = z.infer<typeof launcherOptionsSchema>;
