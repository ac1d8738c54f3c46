/** What the command line tells the launcher process. */
import { z } from 'zod';
import { runKindSchema } from './runs.ts';

export const launcherOptionsSchema = z.object({
  /** In placements; two launchers of one registry have different names. */
  name: z.string(),
  url: z.string(),
  kinds: z.array(runKindSchema),
  /** Jobs that may be open at the same time. */
  jobsMax: z.number(),
  everySeconds: z.number(),
  /** Folder of settings and logs, seen by the nodes. */
  folder: z.string(),
  /** File with `#SBATCH` lines and commands of the site. */
  template: z.string().optional(),
  /** The `paraffin` command on the nodes, word by word. */
  paraffin: z.array(z.string()),
  /** Settings of the workers on the nodes; undefined: written by the launcher. */
  settings: z.string().optional(),
  warnSeconds: z.number(),
  sshHost: z.string().optional(),
  sshControlPath: z.string().optional(),
  checkOnly: z.boolean(),
});

export type LauncherOptions = z.infer<typeof launcherOptionsSchema>;
