_base_ = ['./mobilenext_imagenet.py', '../_base_/attention/pdfam.py']

model = dict(backbone=dict(attention={{_base_.attention}}))
