/** Barcodes of The Cancer Genome Atlas: TCGA-XX-XXXX identifies a patient anywhere in a path. Pure. */

/**
 * Project, tissue source site, participant; what follows identifies a sample, a portion, or a slide of the same
 * patient.
 */
const BARCODE = /(?<![a-z0-9])tcga[-._ ](?<site>[a-z0-9]{2})[-._ ](?<participant>[a-z0-9]{4})(?![a-z0-9])/gi;

/**
 * `TCGA-AB-0001` for the last barcode in a path or name, written with hyphens, dots, underscores or spaces and in any
 * case; null without one. `tcga_he_tile` is not a barcode: unless it is written exactly as TCGA does, the participant
 * must contain a digit.
 */
export function tcgaPatientOf(text: string): string | null {
  let patient: string | null = null;
  for (const { 0: written, groups } of text.matchAll(BARCODE)) {
    const { site = '', participant = '' } = groups ?? {};
    const barcode = `TCGA-${site}-${participant}`.toUpperCase();
    if (written === barcode || /\d/.test(participant)) patient = barcode;
  }
  return patient;
}
