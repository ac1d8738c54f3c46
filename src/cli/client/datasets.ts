/** `paraffin datasets`: one file for each of its commands. */
import type { Command } from '@commander-js/extra-typings';
import { group } from '../command.ts';
import { addCommand } from './add-dataset.ts';
import { listCommand, showCommand } from './find-datasets.ts';
import { importCommand } from './import-images.ts';
import { issuesCommand } from './import-issues.ts';
import { verifyCommand } from './verify-dataset.ts';

export function datasetCommands(): Command {
  const datasets = group('datasets', 'find, describe, import and check datasets');
  for (const each of [listCommand, showCommand, addCommand, importCommand, issuesCommand, verifyCommand])
    datasets.addCommand(each);
  return datasets;
}
