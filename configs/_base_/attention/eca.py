attention = dict(type='ECA')
