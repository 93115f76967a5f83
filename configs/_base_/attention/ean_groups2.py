attention = dict(type='EAN', groups=2)
