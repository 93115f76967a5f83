# Table 4 by the common protocol: SSDLite320, MobileNeXt, Pascal VOC: VOC2007 and VOC2012 trainval, evaluated on VOC2007
# test. Which of the two protocols the paper's figures are of: docs/model_zoo.md.
_base_ = './ssdlite320_mobilenext_voc.py'

voc2007, voc2012 = _base_.train_dataloader.dataset.datasets
voc2012.ann_file = 'VOC2012/ImageSets/Main/trainval.txt'
train_dataloader = dict(dataset=dict(datasets=[voc2007, voc2012]))
val_dataloader = dict(
    dataset=dict(ann_file='VOC2007/ImageSets/Main/test.txt', data_prefix=dict(sub_data_root='VOC2007/'))
)
test_dataloader = val_dataloader

val_evaluator = dict(eval_mode='11points')
test_evaluator = val_evaluator
