attention = dict(type='EAN', groups=8)
