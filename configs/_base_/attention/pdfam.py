attention = dict(type='PdfAM')
