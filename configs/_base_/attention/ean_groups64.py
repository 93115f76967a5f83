attention = dict(type='EAN', groups=64)
