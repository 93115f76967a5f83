attention = dict(type='EAN', groups=32)
