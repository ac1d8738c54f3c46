/** Exports: a checkpoint's weights as files for other frameworks, verified before they are served. */
import type { Database } from '../../platform/db.ts';
import {
  createExportRegister as createRegister,
  createExportService,
  type ExportRegister,
  type ExportService,
  type ExportServiceParts,
} from './exports.service.ts';
import { createExportStore } from './exports.store.ts';

export { createExportLoaders, type ExportLoaders } from './exports.loaders.ts';
export type { ExportRecord, NewExports } from './exports.records.ts';
export type { ExportPatience, ExportRegister, ExportService } from './exports.service.ts';

/** The module's interface for the server. */
export function createExports(db: Database, parts: Omit<ExportServiceParts, 'store'>): ExportService {
  return createExportService({ ...parts, store: createExportStore(db) });
}

/** The module's interface for workers, which covers their only write. */
export function createExportRegister(db: Database): ExportRegister {
  return createRegister(createExportStore(db));
}
