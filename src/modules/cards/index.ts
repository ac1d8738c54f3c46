/** Cards: what a dataset or a checkpoint is, in the formats that the field reads. */
export { createCardService, type CardService, type CardServiceParts } from './cards.service.ts';
export { CROISSANT_MEDIA_TYPE } from './croissant.rules.ts';
export { MODEL_CARD_MEDIA_TYPE } from './model-card.rules.ts';
