/** Builds the pages (web/) into web/dist; quick when nothing has changed. */
import { prepare, preparePages } from './prepare.mjs';

prepare();
preparePages();
